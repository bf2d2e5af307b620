# What replicates, what it may, and that a promoted bucket takes no replicas.

mock_provider "aws" {
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::111122223333:role/made-here" }
  }
}

mock_provider "aws" {
  alias = "dr"

  mock_resource "aws_s3_bucket" {
    defaults = { arn = "arn:aws:s3:::vr-second", id = "vr-second", region = "eu-west-1" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-west-1:111122223333:key/second" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "111122223333" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
}

variables {
  name               = "vr-second"
  source_bucket      = "vr-first"
  source_bucket_arn  = "arn:aws:s3:::vr-first"
  source_kms_key_arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
}

run "replicates_everything" {
  assert {
    condition     = aws_s3_bucket_replication_configuration.this.bucket == "vr-first" && length(aws_s3_bucket_replication_configuration.this.rule) == 1
    error_message = "the first bucket is not replicated by one rule"
  }

  assert {
    condition = alltrue([for rule in aws_s3_bucket_replication_configuration.this.rule :
      rule.status == "Enabled" && rule.destination[0].bucket == "arn:aws:s3:::vr-second" &&
      rule.destination[0].encryption_configuration[0].replica_kms_key_id == "arn:aws:kms:eu-west-1:111122223333:key/second" &&
      rule.source_selection_criteria[0].sse_kms_encrypted_objects[0].status == "Enabled"
    ])
    error_message = "objects are encrypted with KMS, and the rule does not take those along"
  }

  assert {
    condition     = output.object_store == { bucket = "vr-second", region = "eu-west-1", kmsKeyId = "arn:aws:kms:eu-west-1:111122223333:key/second" }
    error_message = "object_store is not storage.objectStore of a VRCluster in the second region"
  }
}

run "role" {
  assert {
    condition = jsonencode(jsondecode(aws_iam_role.replication.assume_role_policy).Statement) == jsonencode([{
      Effect    = "Allow"
      Principal = { Service = "s3.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = { ArnEquals = { "aws:SourceArn" = "arn:aws:s3:::vr-first" } }
    }])
    error_message = "the role can be taken on behalf of another bucket"
  }

  assert {
    condition = jsonencode({ for s in jsondecode(output.replication_policy).Statement : s.Sid => s.Resource }) == jsonencode({
      Configuration = ["arn:aws:s3:::vr-first"]
      Versions      = ["arn:aws:s3:::vr-first/*"]
      Replicas      = ["arn:aws:s3:::vr-second/*"]
      Decrypt       = [var.source_kms_key_arn]
      Encrypt       = ["arn:aws:kms:eu-west-1:111122223333:key/second"]
    })
    error_message = "the role reaches more than the two buckets and their keys"
  }

  assert {
    condition = length([
      for action in flatten(jsondecode(output.replication_policy).Statement[*].Action) : action
      if startswith(action, "s3:Put") || startswith(action, "s3:Delete") || strcontains(action, "*")
    ]) == 0
    error_message = "the role can write or delete by itself: only S3 replicates"
  }
}

run "takes_replicas_until_it_is_promoted" {
  assert {
    condition = length([
      for s in jsondecode(output.bucket_policy).Statement : s if contains(flatten([s.Action]), "s3:ReplicateObject")
    ]) == 0
    error_message = "the second bucket refuses replicas though the first region counts"
  }
}

run "refuses_replicas_when_promoted" {
  variables {
    promoted = true
  }

  assert {
    condition = jsonencode([
      for s in jsondecode(output.bucket_policy).Statement : [s.Effect, s.Principal, s.Action, s.Resource, can(s.Condition)] if s.Sid == "NoReplicas"
    ]) == jsonencode([["Deny", "*", ["s3:ReplicateObject", "s3:ReplicateDelete"], "arn:aws:s3:::vr-second/*", false]])
    error_message = "the first region's HEAD can overwrite the restored one"
  }

  assert {
    condition     = alltrue([for rule in aws_s3_bucket_replication_configuration.this.rule : rule.status == "Disabled"])
    error_message = "the first bucket goes on replicating into one that refuses"
  }
}

run "refuses_the_same_name" {
  command = plan
  variables { name = "vr-first" }
  expect_failures = [var.source_bucket]
}

run "refuses_a_bucket_by_name" {
  command = plan
  variables { source_bucket_arn = "vr-first" }
  expect_failures = [var.source_bucket_arn]
}

run "refuses_an_alias" {
  command = plan
  variables { source_kms_key_arn = "alias/vr" }
  expect_failures = [var.source_kms_key_arn]
}

run "refuses_a_class_that_takes_hours" {
  command = plan
  variables { storage_class = "DEEP_ARCHIVE" }
  expect_failures = [var.storage_class]
}

run "refuses_a_role_with_spaces" {
  command = plan
  variables { role_name = "vr replication" }
  expect_failures = [var.role_name]
}
