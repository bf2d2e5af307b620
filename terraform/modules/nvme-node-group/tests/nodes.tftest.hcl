# A group in each zone, what its nodes are told, and the refusals.

mock_provider "aws" {}

variables {
  name          = "vr"
  cluster_name  = "prod"
  node_role_arn = "arn:aws:iam::111122223333:role/vr-node"
  subnets       = { eu-central-1a = "subnet-a", eu-central-1b = "subnet-b", eu-central-1c = "subnet-c" }
}

run "a_group_in_each_zone" {
  assert {
    condition     = jsonencode({ for zone, group in aws_eks_node_group.this : zone => group.subnet_ids }) == jsonencode({ for zone, subnet in var.subnets : zone => [subnet] })
    error_message = "a group spans zones: a volume of one cannot follow its pod into another"
  }

  assert {
    condition     = alltrue([for group in aws_eks_node_group.this : group.update_config[0].max_unavailable == 1 && group.capacity_type == "ON_DEMAND"])
    error_message = "more than one memory can be lost at a time"
  }

  assert {
    condition     = output.node_groups["eu-central-1b"] == "vr-eu-central-1b"
    error_message = "a group does not bear its zone's name"
  }
}

run "for_replicas_alone" {
  assert {
    condition = alltrue(flatten([for group in aws_eks_node_group.this : [
      for taint in group.taint : taint.key == "dedicated" && taint.value == "vr" && taint.effect == "NO_SCHEDULE"
    ]])) && alltrue([for group in aws_eks_node_group.this : length(group.taint) == 1])
    error_message = "other pods can take the memory of replicas"
  }

  assert {
    condition     = alltrue([for key, value in output.pod_template.nodeSelector : alltrue([for group in aws_eks_node_group.this : group.labels[key] == value])])
    error_message = "pod_template selects other nodes than these"
  }

  assert {
    condition     = output.pod_template.tolerations[0].key == "dedicated" && output.pod_template.tolerations[0].value == "vr"
    error_message = "pod_template does not tolerate the taint"
  }
}

run "mounts_local_disks" {
  assert {
    condition = alltrue([
      for line in ["Content-Type: application/node.eks.aws", "boundary=\"vr\"", "\r\n--vr\r\n", "\r\n--vr--", "\"strategy\": \"Mount\"", "\"kind\": \"NodeConfig\""] :
      strcontains(base64decode(aws_launch_template.this.user_data), line)
    ])
    error_message = "nodeadm is not told to mount the disks"
  }

  assert {
    condition     = output.nvme == { type = "HostPath", hostPath = "/mnt/k8s-disks/0/vr" }
    error_message = "storage.nvme is elsewhere than the disk"
  }

  assert {
    condition     = alltrue([for group in aws_eks_node_group.this : group.ami_type == "AL2023_ARM_64_STANDARD"])
    error_message = "Graviton needs an image for arm64"
  }
}

run "no_disks_nothing_to_mount" {
  variables {
    instance_type = "r7g.4xlarge"
  }

  assert {
    condition     = output.nvme == null && aws_launch_template.this.user_data == null
    error_message = "r7g has no local disk"
  }
}

run "storage_families_have_disks" {
  variables {
    instance_type = "i4i.2xlarge"
  }

  assert {
    condition     = output.nvme != null && alltrue([for group in aws_eks_node_group.this : group.ami_type == "AL2023_x86_64_STANDARD"])
    error_message = "i4i has local disks and an x86-64 processor"
  }
}

run "pods_do_not_reach_the_nodes_role" {
  assert {
    condition     = aws_launch_template.this.metadata_options[0].http_tokens == "required" && aws_launch_template.this.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "a pod can take its node's role"
  }

  assert {
    condition     = aws_launch_template.this.block_device_mappings[0].ebs[0].encrypted == "true"
    error_message = "the root volume is not encrypted"
  }
}

run "refuses_burstable_types" {
  command = plan
  variables { instance_type = "t4g.large" }
  expect_failures = [var.instance_type]
}

run "refuses_a_family" {
  command = plan
  variables { instance_type = "r7gd" }
  expect_failures = [var.instance_type]
}

run "refuses_subnets_without_zones" {
  command = plan
  variables { subnets = { a = "subnet-a" } }
  expect_failures = [var.subnets]
}

run "refuses_no_nodes" {
  command = plan
  variables { nodes_per_zone = 0 }
  expect_failures = [var.nodes_per_zone]
}

run "refuses_a_role_by_name" {
  command = plan
  variables { node_role_arn = "vr-node" }
  expect_failures = [var.node_role_arn]
}

run "refuses_a_tiny_root" {
  command = plan
  variables { root_volume_size = 8 }
  expect_failures = [var.root_volume_size]
}

run "refuses_an_empty_taint" {
  command = plan
  variables { taint = { key = "dedicated", value = "" } }
  expect_failures = [var.taint]
}

run "refuses_a_long_name" {
  command = plan
  variables { name = "a-name-that-leaves-no-room-for-the-zone-after-it" }
  expect_failures = [var.name]
}

run "refuses_a_cluster_by_arn" {
  command = plan
  variables { cluster_name = "arn:aws:eks:eu-central-1:111122223333:cluster/prod" }
  expect_failures = [var.cluster_name]
}
