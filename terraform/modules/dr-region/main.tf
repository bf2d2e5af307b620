# A bucket in a second region, and the replication into it.

module "bucket" {
  source = "../checkpoint-bucket"

  providers = {
    aws = aws.dr
  }

  name                = var.name
  object_lock_mode    = var.object_lock_mode
  object_lock_days    = var.object_lock_days
  hidden_version_days = var.hidden_version_days
  refuse_replicas     = var.promoted
  tags                = var.tags
}

resource "aws_iam_role" "replication" {
  name = var.role_name
  tags = var.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "s3.amazonaws.com" }
      Action    = "sts:AssumeRole"
      # Not on behalf of another bucket.
      Condition = { ArnEquals = { "aws:SourceArn" = var.source_bucket_arn } }
    }]
  })
}

resource "aws_iam_role_policy" "replication" {
  name = "replication"
  role = aws_iam_role.replication.name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "Configuration"
        Effect   = "Allow"
        Action   = ["s3:GetReplicationConfiguration", "s3:ListBucket"]
        Resource = [var.source_bucket_arn]
      },
      {
        Sid    = "Versions"
        Effect = "Allow"
        Action = [
          "s3:GetObjectVersionForReplication",
          "s3:GetObjectVersionAcl",
          "s3:GetObjectVersionTagging",
          "s3:GetObjectRetention",
          "s3:GetObjectLegalHold",
        ]
        Resource = ["${var.source_bucket_arn}/*"]
      },
      {
        Sid      = "Replicas"
        Effect   = "Allow"
        Action   = ["s3:ReplicateObject", "s3:ReplicateDelete", "s3:ReplicateTags"]
        Resource = ["${module.bucket.bucket_arn}/*"]
      },
      {
        Sid       = "Decrypt"
        Effect    = "Allow"
        Action    = ["kms:Decrypt"]
        Resource  = [var.source_kms_key_arn]
        Condition = { StringEquals = { "kms:EncryptionContext:aws:s3:arn" = var.source_bucket_arn } }
      },
      {
        Sid       = "Encrypt"
        Effect    = "Allow"
        Action    = ["kms:Encrypt", "kms:GenerateDataKey"]
        Resource  = [module.bucket.kms_key_arn]
        Condition = { StringEquals = { "kms:EncryptionContext:aws:s3:arn" = module.bucket.bucket_arn } }
      },
    ]
  })
}

resource "aws_s3_bucket_replication_configuration" "this" {
  bucket = var.source_bucket
  role   = aws_iam_role.replication.arn

  rule {
    id       = "everything"
    priority = 0
    status   = var.promoted ? "Disabled" : "Enabled"

    filter {}

    # What the first bucket hides, the second hides too, or it would only grow.
    delete_marker_replication {
      status = "Enabled"
    }

    source_selection_criteria {
      sse_kms_encrypted_objects {
        status = "Enabled"
      }
    }

    destination {
      bucket        = module.bucket.bucket_arn
      storage_class = var.storage_class

      encryption_configuration {
        replica_kms_key_id = module.bucket.kms_key_arn
      }

      # Within 15 minutes, and a metric that says how late it is.
      replication_time {
        status = "Enabled"

        time {
          minutes = 15
        }
      }

      metrics {
        status = "Enabled"

        event_threshold {
          minutes = 15
        }
      }
    }
  }

  depends_on = [aws_iam_role_policy.replication]
}
