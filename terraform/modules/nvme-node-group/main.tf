# The nodes of the replicas, a managed group in each zone.

locals {
  family = split(".", var.instance_type)[0]

  # As AWS names types: letters, the generation, then what it has; g is Graviton, d local disks, and families i and is4
  # are made of local disks.
  graviton = can(regex("^[a-z]+[0-9]+[a-z]*g", local.family))
  disks    = can(regex("^(i[0-9]|im[0-9]|is[0-9]|[a-z]+[0-9]+[a-z]*d)", local.family))

  labels = merge(var.labels, { "vr-operator.io/replicas" = "true" })

  # Where `nodeadm` mounts the first disk under the strategy Mount.
  mount = "/mnt/k8s-disks/0"

  node_config = yamlencode({
    apiVersion = "node.eks.aws/v1alpha1"
    kind       = "NodeConfig"
    spec       = { instance = { localStorage = { strategy = "Mount" } } }
  })

  user_data = join("\r\n", [
    "MIME-Version: 1.0",
    "Content-Type: multipart/mixed; boundary=\"vr\"",
    "",
    "--vr",
    "Content-Type: application/node.eks.aws",
    "",
    local.node_config,
    "--vr--",
    "",
  ])
}

resource "aws_launch_template" "this" {
  name_prefix = "${var.name}-"
  # Nothing to say to nodes without disks.
  user_data = local.disks ? base64encode(local.user_data) : null
  tags      = var.tags

  metadata_options {
    http_endpoint = "enabled"
    http_tokens   = "required"
    # Pods do not reach the node's role.
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_type = "gp3"
      volume_size = var.root_volume_size
      encrypted   = "true"
    }
  }

  tag_specifications {
    resource_type = "instance"
    tags          = merge(var.tags, { Name = var.name })
  }

  tag_specifications {
    resource_type = "volume"
    tags          = merge(var.tags, { Name = var.name })
  }
}

resource "aws_eks_node_group" "this" {
  for_each = var.subnets

  cluster_name    = var.cluster_name
  node_group_name = "${var.name}-${each.key}"
  node_role_arn   = var.node_role_arn
  subnet_ids      = [each.value]
  ami_type        = local.graviton ? "AL2023_ARM_64_STANDARD" : "AL2023_x86_64_STANDARD"
  instance_types  = [var.instance_type]
  capacity_type   = "ON_DEMAND"
  labels          = local.labels
  tags            = var.tags

  scaling_config {
    desired_size = var.nodes_per_zone
    min_size     = var.nodes_per_zone
    # One more, so that a new node is there before the old one goes.
    max_size = var.nodes_per_zone + 1
  }

  # A memory is lost with each node.
  update_config {
    max_unavailable = 1
  }

  taint {
    key    = var.taint.key
    value  = var.taint.value
    effect = "NO_SCHEDULE"
  }

  launch_template {
    id      = aws_launch_template.this.id
    version = aws_launch_template.this.latest_version
  }
}
