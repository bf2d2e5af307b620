# The policy as S3 would be sent it, and the refusals of the variables. AWS is mocked: whether S3 keeps the policy is not
# tested here.

mock_provider "aws" {
  mock_resource "aws_s3_bucket" {
    defaults = { arn = "arn:aws:s3:::vr-checkpoints", id = "vr-checkpoints", region = "eu-central-1" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:111122223333:key/made-here" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "111122223333" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
}

variables {
  name = "vr-checkpoints"
}

run "policy" {
  assert {
    condition = alltrue([
      for s in jsondecode(aws_s3_bucket_policy.this.policy).Statement : s.Effect == "Deny" && s.Principal == "*"
    ])
    error_message = "the bucket's policy must only deny, and everybody: an Allow would let in who has no role"
  }

  assert {
    condition = [
      for s in jsondecode(aws_s3_bucket_policy.this.policy).Statement : s if s.Sid == "WriteOnce"
      ][0] == {
      Sid       = "WriteOnce"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:PutObject"
      Resource  = [for key in ["g/*", "FORMAT", "CLAIM", "evidence/*"] : "arn:aws:s3:::vr-checkpoints/*/${key}"]
      Condition = { Null = { "s3:if-none-match" = "true" } }
    }
    error_message = "what a lineage consists of can be overwritten"
  }

  assert {
    condition = [
      for s in jsondecode(aws_s3_bucket_policy.this.policy).Statement : s if s.Sid == "CompareAndSwap"
      ][0] == {
      Sid       = "CompareAndSwap"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:PutObject"
      Resource  = "arn:aws:s3:::vr-checkpoints/*"
      Condition = { Null = { "s3:if-match" = "true", "s3:if-none-match" = "true" } }
    }
    error_message = "HEAD can be written blindly"
  }

  assert {
    condition = alltrue([
      for action in ["s3:DeleteObjectVersion", "s3:BypassGovernanceRetention", "s3:PutObjectRetention", "s3:PutObjectLegalHold"] :
      contains(flatten([
        for s in jsondecode(aws_s3_bucket_policy.this.policy).Statement : s.Action
        if s.Resource == "arn:aws:s3:::vr-checkpoints/*" && !can(s.Condition)
      ]), action)
    ])
    error_message = "a version can be destroyed before its time"
  }

  assert {
    condition = [
      for s in jsondecode(aws_s3_bucket_policy.this.policy).Statement : s.Resource if try(s.Action == "s3:DeleteObject", false)
    ] == [["arn:aws:s3:::vr-checkpoints/*/HEAD", "arn:aws:s3:::vr-checkpoints/*/FORMAT"]]
    error_message = "HEAD or FORMAT can be deleted"
  }

  assert {
    condition = contains([
      for s in jsondecode(aws_s3_bucket_policy.this.policy).Statement : try(s.Condition.Bool["aws:SecureTransport"], "")
      if s.Action == "s3:*" && s.Resource == ["arn:aws:s3:::vr-checkpoints", "arn:aws:s3:::vr-checkpoints/*"]
    ], "false")
    error_message = "requests without TLS get through"
  }
}

run "keeps" {
  assert {
    condition     = aws_s3_bucket.this.object_lock_enabled && !aws_s3_bucket.this.force_destroy
    error_message = "Object Lock must be on, and the bucket must not go with its objects"
  }

  assert {
    condition     = aws_s3_bucket_versioning.this.versioning_configuration[0].status == "Enabled"
    error_message = "versions are not kept"
  }

  assert {
    condition = alltrue([
      for retention in aws_s3_bucket_object_lock_configuration.this.rule[0].default_retention :
      retention.mode == "GOVERNANCE" && retention.days == 14
    ])
    error_message = "the lock is not what the variables say"
  }

  assert {
    condition     = aws_s3_bucket_lifecycle_configuration.this.rule[0].noncurrent_version_expiration[0].noncurrent_days == 30
    error_message = "hidden versions end at another time than asked for"
  }

  assert {
    condition     = !anytrue([for rule in aws_s3_bucket_lifecycle_configuration.this.rule : try(rule.expiration[0].days > 0, false)])
    error_message = "current versions must never end by age: what HEAD retains may be old"
  }
}

run "encrypts" {
  assert {
    condition = alltrue([
      for rule in aws_s3_bucket_server_side_encryption_configuration.this.rule : rule.bucket_key_enabled &&
      rule.apply_server_side_encryption_by_default[0].sse_algorithm == "aws:kms" &&
      rule.apply_server_side_encryption_by_default[0].kms_master_key_id == "arn:aws:kms:eu-central-1:111122223333:key/made-here"
    ])
    error_message = "objects are not encrypted with the module's key and a bucket key"
  }

  assert {
    condition = jsondecode(aws_kms_key.this[0].policy).Statement == [{
      Sid       = "AccountDecides", Effect = "Allow", Action = "kms:*", Resource = "*"
      Principal = { AWS = "arn:aws:iam::111122223333:root" }
    }]
    error_message = "the key must be the account's and nobody else's"
  }

  assert {
    condition     = aws_kms_key.this[0].enable_key_rotation
    error_message = "the key never turns"
  }
}

run "own_key" {
  variables {
    kms_key_arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
  }

  assert {
    condition     = length(aws_kms_key.this) == 0 && output.object_store.kmsKeyId == var.kms_key_arn
    error_message = "a key was given and another one is used"
  }

  assert {
    condition = contains([
      for s in jsondecode(aws_s3_bucket_policy.this.policy).Statement :
      try(s.Condition.StringNotEquals["s3:x-amz-server-side-encryption-aws-kms-key-id"], "")
    ], var.kms_key_arn)
    error_message = "another key than the given one gets through"
  }
}

run "feeds_the_resource" {
  assert {
    condition = output.object_store == {
      bucket   = "vr-checkpoints"
      region   = "eu-central-1"
      kmsKeyId = "arn:aws:kms:eu-central-1:111122223333:key/made-here"
    }
    error_message = "object_store is not storage.objectStore of a VRCluster"
  }
}

run "refuses_a_name_that_s3_refuses" {
  command = plan
  variables { name = "VR_Checkpoints" }
  expect_failures = [var.name]
}

run "refuses_an_alias" {
  command = plan
  variables { kms_key_arn = "alias/vr" }
  expect_failures = [var.kms_key_arn]
}

run "refuses_an_unknown_lock" {
  command = plan
  variables { object_lock_mode = "governance" }
  expect_failures = [var.object_lock_mode]
}

run "refuses_a_lock_of_no_days" {
  command = plan
  variables { object_lock_days = 0 }
  expect_failures = [var.object_lock_days]
}

run "refuses_half_a_day" {
  command = plan
  variables { hidden_version_days = 0.5 }
  expect_failures = [var.hidden_version_days]
}
