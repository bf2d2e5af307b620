# Settings, trust policies and the storage class.

mock_provider "aws" {
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::111122223333:role/made-here" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:111122223333:key/made-here" }
  }
  mock_resource "aws_eks_cluster" {
    defaults = { certificate_authority = [{ data = "bm9uZQ==" }] }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "111122223333" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
}

variables {
  name           = "vr"
  subnet_ids     = ["subnet-a", "subnet-b", "subnet-c"]
  administrators = ["arn:aws:iam::111122223333:role/operations"]
}

run "closed" {
  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].endpoint_private_access && !aws_eks_cluster.this.vpc_config[0].endpoint_public_access
    error_message = "the API is reachable from the internet though nobody asked for it"
  }

  assert {
    condition     = aws_eks_cluster.this.access_config[0].authentication_mode == "API" && !aws_eks_cluster.this.access_config[0].bootstrap_cluster_creator_admin_permissions
    error_message = "somebody administers the cluster who is not in administrators"
  }

  assert {
    condition = alltrue([
      for config in aws_eks_cluster.this.encryption_config :
      contains(config.resources, "secrets") && config.provider[0].key_arn == aws_kms_key.secrets.arn
    ]) && length(aws_eks_cluster.this.encryption_config) == 1
    error_message = "secrets are not encrypted with the module's key"
  }

  assert {
    condition     = aws_launch_template.system.metadata_options[0].http_tokens == "required" && aws_launch_template.system.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "a pod can take its node's role"
  }

  assert {
    condition     = aws_eks_cluster.this.deletion_protection
    error_message = "the cluster can be deleted by one command"
  }
}

run "open_to_those_who_were_named" {
  variables {
    public_access_cidrs = ["203.0.113.0/24"]
  }

  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].endpoint_public_access && aws_eks_cluster.this.vpc_config[0].public_access_cidrs == toset(["203.0.113.0/24"])
    error_message = "the API is open to others than those who were named"
  }
}

run "trusts" {
  assert {
    condition = jsonencode({
      cluster = jsondecode(aws_iam_role.cluster.assume_role_policy).Statement[*].Principal.Service
      node    = jsondecode(aws_iam_role.node.assume_role_policy).Statement[*].Principal.Service
      ebs_csi = jsondecode(aws_iam_role.ebs_csi.assume_role_policy).Statement[*].Principal.Service
      }) == jsonencode({
      cluster = ["eks.amazonaws.com"], node = ["ec2.amazonaws.com"], ebs_csi = ["pods.eks.amazonaws.com"]
    })
    error_message = "a role trusts another service than the one that it is for"
  }

  assert {
    condition     = toset(keys(aws_iam_role_policy_attachment.node)) == toset(["AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly", "AmazonEKS_CNI_Policy"])
    error_message = "nodes may do more or less than join, pull images and give addresses"
  }

  assert {
    condition     = jsondecode(aws_kms_key.secrets.policy).Statement[0].Principal.AWS == "arn:aws:iam::111122223333:root" && length(jsondecode(aws_kms_key.secrets.policy).Statement) == 1
    error_message = "the key must be the account's and nobody else's"
  }
}

run "addons" {
  assert {
    condition     = setunion(keys(aws_eks_addon.before), keys(aws_eks_addon.after)) == toset(["vpc-cni", "kube-proxy", "coredns", "eks-pod-identity-agent", "aws-ebs-csi-driver"])
    error_message = "an add-on is missing: without the Pod Identity agent no pod has a role, without the CSI driver no volume"
  }

  assert {
    condition = alltrue([
      for addon in aws_eks_addon.after : length(addon.pod_identity_association) == (addon.addon_name == "aws-ebs-csi-driver" ? 1 : 0)
    ])
    error_message = "the CSI driver has no role, or something else has its"
  }
}

run "storage_class" {
  assert {
    condition = jsonencode(yamldecode(output.storage_class)) == jsonencode({
      apiVersion           = "storage.k8s.io/v1"
      kind                 = "StorageClass"
      metadata             = { name = "vr-gp3" }
      provisioner          = "ebs.csi.aws.com"
      reclaimPolicy        = "Retain"
      volumeBindingMode    = "WaitForFirstConsumer"
      allowVolumeExpansion = true
      parameters           = { type = "gp3", encrypted = "true", throughput = "500" }
    })
    error_message = "volumes must be encrypted, stay when their claim goes, and be made where the pod is"
  }
}

run "refuses_the_whole_internet" {
  command = plan
  variables { public_access_cidrs = ["0.0.0.0/0"] }
  expect_failures = [var.public_access_cidrs]
}

run "refuses_nobody" {
  command = plan
  variables { administrators = [] }
  expect_failures = [var.administrators]
}

run "refuses_a_session" {
  command = plan
  variables { administrators = ["arn:aws:sts::111122223333:assumed-role/operations/me"] }
  expect_failures = [var.administrators]
}

run "refuses_a_patch_level" {
  command = plan
  variables { kubernetes_version = "1.33.1" }
  expect_failures = [var.kubernetes_version]
}

run "refuses_two_subnets" {
  command = plan
  variables { subnet_ids = ["subnet-a", "subnet-b"] }
  expect_failures = [var.subnet_ids]
}

run "refuses_another_architecture" {
  command = plan
  variables { system_instance_type = "m7i.large" }
  expect_failures = [var.system_instance_type]
}

run "refuses_slow_volumes" {
  command = plan
  variables { volume_throughput = 100 }
  expect_failures = [var.volume_throughput]
}

run "refuses_more_than_its_iops_carry" {
  command = plan
  variables { volume_throughput = 1000 }
  expect_failures = [var.volume_throughput]
}

run "refuses_a_name_with_spaces" {
  command = plan
  variables { name = "my cluster" }
  expect_failures = [var.name]
}

run "refuses_a_storage_class_in_capitals" {
  command = plan
  variables { storage_class_name = "GP3" }
  expect_failures = [var.storage_class_name]
}
