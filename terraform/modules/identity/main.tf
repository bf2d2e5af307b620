# Who may do what to the bucket. One role for each kind of work, for all clusters: EKS Pod Identity puts the pod's namespace
# into the session, and the policies let a session touch only keys that begin with it. So the prefix of a VRCluster
# (`storage.objectStore.prefix`) is its namespace, or begins with it and a slash. The operator alone works for clusters of
# other namespaces than its own: its role reaches the prefixes of all, and there neither pages nor log.

data "aws_region" "current" {}

locals {
  # Not Terraform's: IAM fills it in with each request.
  namespace = "$${aws:PrincipalTag/kubernetes-namespace}"
  below     = "${var.bucket_arn}/${local.namespace}"

  can = {
    # A missing object is "not there" only to whoever may list, and the first start of a cluster must hear that and not
    # "denied". Such a request names no prefix: hence IfExists. What a session can see this way of others are names of keys.
    list = {
      Sid       = "List"
      Effect    = "Allow"
      Action    = "s3:ListBucket"
      Resource  = var.bucket_arn
      Condition = { StringLikeIfExists = { "s3:prefix" = ["${local.namespace}/*"] } }
    }
    read = {
      Sid      = "Read"
      Effect   = "Allow"
      Action   = "s3:GetObject"
      Resource = ["${local.below}/*"]
    }
    # The bucket's policy demands a condition of each of these: module `checkpoint-bucket`.
    write = {
      Sid      = "Write"
      Effect   = "Allow"
      Action   = "s3:PutObject"
      Resource = ["${local.below}/*/FORMAT", "${local.below}/*/HEAD", "${local.below}/*/g/*"]
    }
    # Before its first write a replica finds out whether the store honours conditions, with an object of its own.
    probe = {
      Sid      = "Probe"
      Effect   = "Allow"
      Action   = ["s3:PutObject", "s3:DeleteObject"]
      Resource = ["${local.below}/*/probe/*"]
    }
    # Hides a version; to destroy one is granted to nobody.
    collect = {
      Sid      = "Collect"
      Effect   = "Allow"
      Action   = "s3:DeleteObject"
      Resource = ["${local.below}/*/g/*"]
    }
    # What moves a lineage to a new generation.
    fence = {
      Sid      = "Fence"
      Effect   = "Allow"
      Action   = "s3:PutObject"
      Resource = ["${local.below}/*/HEAD"]
    }
    # The operator: whose a prefix is, what there is to restore from, and the records of drills. Neither pages nor log: it
    # cannot read what people have written.
    look = {
      Sid      = "Look"
      Effect   = "Allow"
      Action   = "s3:ListBucket"
      Resource = var.bucket_arn
    }
    overview = {
      Sid      = "Overview"
      Effect   = "Allow"
      Action   = "s3:GetObject"
      Resource = [for key in ["CLAIM", "*/HEAD", "*/g/*/ckpt/*", "evidence/*"] : "${var.bucket_arn}/*/${key}"]
    }
    govern = {
      Sid      = "Govern"
      Effect   = "Allow"
      Action   = "s3:PutObject"
      Resource = [for key in ["CLAIM", "*/HEAD", "evidence/*"] : "${var.bucket_arn}/*/${key}"]
    }
    # The same as of a replica, before the first write to a place.
    try = {
      Sid      = "Try"
      Effect   = "Allow"
      Action   = ["s3:PutObject", "s3:DeleteObject"]
      Resource = "${var.bucket_arn}/*/probe/*"
    }
    decrypt = {
      Sid       = "Decrypt"
      Effect    = "Allow"
      Action    = "kms:Decrypt"
      Resource  = var.kms_key_arn
      Condition = local.only_through_s3
    }
    encrypt = {
      Sid       = "Encrypt"
      Effect    = "Allow"
      Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource  = var.kms_key_arn
      Condition = local.only_through_s3
    }
  }

  # With bucket keys the bucket is what S3 asks the key for.
  only_through_s3 = {
    StringEquals = {
      "kms:ViaService"                   = "s3.${coalesce(var.bucket_region, data.aws_region.current.region)}.amazonaws.com"
      "kms:EncryptionContext:aws:s3:arn" = var.bucket_arn
    }
  }

  roles = {
    # The replicas. They collect what they themselves have written, when no retained checkpoint needs it.
    writer = ["list", "read", "write", "probe", "collect", "encrypt"]
    # Collection by somebody else than the replicas.
    collector = ["list", "read", "collect", "decrypt"]
    # Whoever begins a new generation where no operator does: `vr dev --restore` in a pod of the cluster's namespace.
    bootstrap = ["list", "read", "fence", "probe", "encrypt"]
    # Rehearsals of a restore.
    drill = ["list", "read", "decrypt"]
    # vr-operator: claims prefixes, fences, pins, keeps the records of drills.
    operator = ["look", "overview", "govern", "try", "encrypt"]
  }

  trust = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "PodIdentity"
      Effect    = "Allow"
      Principal = { Service = "pods.eks.amazonaws.com" }
      # Without TagSession there is no namespace in the session, and the policies above allow nothing.
      Action = ["sts:AssumeRole", "sts:TagSession"]
    }]
  })

  service_accounts = { for a in var.service_accounts : "${a.namespace}/${a.name}" => a }
}

resource "aws_iam_role" "this" {
  for_each = local.roles

  name                 = "${var.name}-${each.key}"
  description          = each.key == "operator" ? "VR: operator of the clusters of all namespaces" : "VR: ${each.key} of checkpoints, below the prefix of the pod's namespace"
  assume_role_policy   = local.trust
  max_session_duration = 3600
  permissions_boundary = var.permissions_boundary_arn
  tags                 = var.tags
}

resource "aws_iam_role_policy" "this" {
  for_each = local.roles

  name = "checkpoints"
  role = aws_iam_role.this[each.key].name

  # Through strings, since the statements are not of one type.
  policy = format("{\"Version\":\"2012-10-17\",\"Statement\":[%s]}", join(",", [for what in each.value : jsonencode(local.can[what])]))
}

resource "aws_eks_pod_identity_association" "this" {
  for_each = local.service_accounts

  cluster_name    = var.cluster_name
  namespace       = each.value.namespace
  service_account = each.value.name
  role_arn        = aws_iam_role.this[each.value.role].arn
  tags            = var.tags
}
