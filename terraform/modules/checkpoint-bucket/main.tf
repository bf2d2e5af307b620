# The bucket that outlives everything else: what it takes, it keeps. Whoever may write to it can add, and move HEAD; nobody
# can change what is there or destroy a version before its time.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  bucket_arn  = aws_s3_bucket.this.arn
  kms_key_arn = var.kms_key_arn == null ? aws_kms_key.this[0].arn : var.kms_key_arn
  root_arn    = "arn:${data.aws_partition.current.partition}:iam::${data.aws_caller_identity.current.account_id}:root"

  # What a lineage consists of is written once (docs/checkpoint-format.md), and so are the claim of a prefix and the records
  # of drills; HEAD alone moves.
  written_once = [for key in ["g/*", "FORMAT", "CLAIM", "evidence/*"] : "${local.bucket_arn}/*/${key}"]

  # Replicas pass by the conditions of the others below: S3 writes them without a request of anybody's.
  no_replicas = [for statement in [{
    Sid       = "NoReplicas"
    Effect    = "Deny"
    Principal = "*"
    Action    = ["s3:ReplicateObject", "s3:ReplicateDelete"]
    Resource  = "${local.bucket_arn}/*"
  }] : statement if var.refuse_replicas]
}

resource "aws_kms_key" "this" {
  count = var.kms_key_arn == null ? 1 : 0

  description             = "Checkpoints in ${var.name}"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  tags                    = var.tags

  # The account's own IAM decides; module `identity` gives its roles no more than this bucket needs.
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "AccountDecides"
      Effect    = "Allow"
      Principal = { AWS = local.root_arn }
      Action    = "kms:*"
      Resource  = "*"
    }]
  })
}

resource "aws_kms_alias" "this" {
  count = var.kms_key_arn == null ? 1 : 0

  name          = "alias/${replace(var.name, ".", "-")}"
  target_key_id = aws_kms_key.this[0].key_id
}

resource "aws_s3_bucket" "this" {
  #checkov:skip=CKV_AWS_18:access logs need a second bucket; CloudTrail data events of the account serve those who want them
  #checkov:skip=CKV_AWS_144:replication costs as much as the bucket again: module dr-region adds it for those who want it
  #checkov:skip=CKV2_AWS_62:nobody waits for an event of this bucket; readers begin at HEAD
  bucket = var.name
  tags   = var.tags

  # Can be set only here, when the bucket is made.
  object_lock_enabled = true
  force_destroy       = false

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_versioning" "this" {
  bucket = aws_s3_bucket.this.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_object_lock_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    default_retention {
      mode = var.object_lock_mode
      days = var.object_lock_days
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = local.kms_key_arn
    }
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  bucket = aws_s3_bucket.this.id

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

# A replica deletes what no retained checkpoint needs. That hides a version; here it ends, long after.
resource "aws_s3_bucket_lifecycle_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    id     = "end-of-hidden-versions"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = var.hidden_version_days
    }

    expiration {
      expired_object_delete_marker = true
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_bucket_policy" "this" {
  bucket = aws_s3_bucket.this.id

  # Denials only: they hold for everybody, whatever a role allows. Who may come in is said in module `identity`.
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(local.no_replicas, [
      {
        Sid       = "OnlyTls"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource  = [local.bucket_arn, "${local.bucket_arn}/*"]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
      {
        Sid       = "OnlyTls12"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource  = [local.bucket_arn, "${local.bucket_arn}/*"]
        Condition = { NumericLessThan = { "s3:TlsVersion" = "1.2" } }
      },
      {
        # If-None-Match: a stale cluster cannot overwrite what a restored one has written.
        Sid       = "WriteOnce"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:PutObject"
        Resource  = local.written_once
        Condition = { Null = { "s3:if-none-match" = "true" } }
      },
      {
        # HEAD, and whatever else: If-Match or If-None-Match, never blindly.
        Sid       = "CompareAndSwap"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:PutObject"
        Resource  = "${local.bucket_arn}/*"
        Condition = { Null = { "s3:if-match" = "true", "s3:if-none-match" = "true" } }
      },
      {
        # A lineage without HEAD is not found any more.
        Sid       = "HeadStays"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:DeleteObject"
        Resource  = ["${local.bucket_arn}/*/HEAD", "${local.bucket_arn}/*/FORMAT"]
      },
      {
        Sid       = "VersionsStay"
        Effect    = "Deny"
        Principal = "*"
        Action    = ["s3:DeleteObjectVersion", "s3:BypassGovernanceRetention", "s3:PutObjectRetention", "s3:PutObjectLegalHold"]
        Resource  = "${local.bucket_arn}/*"
      },
      {
        # A writer that names no encryption gets the bucket's. Null, since a negated condition holds of what is absent.
        Sid       = "OnlyKms"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:PutObject"
        Resource  = "${local.bucket_arn}/*"
        Condition = {
          Null            = { "s3:x-amz-server-side-encryption" = "false" }
          StringNotEquals = { "s3:x-amz-server-side-encryption" = "aws:kms" }
        }
      },
      {
        Sid       = "OnlyThisKey"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:PutObject"
        Resource  = "${local.bucket_arn}/*"
        Condition = {
          Null            = { "s3:x-amz-server-side-encryption-aws-kms-key-id" = "false" }
          StringNotEquals = { "s3:x-amz-server-side-encryption-aws-kms-key-id" = local.kms_key_arn }
        }
      },
    ])
  })

  depends_on = [aws_s3_bucket_public_access_block.this]
}
