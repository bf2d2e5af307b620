output "bucket" {
  description = "Name of the second bucket."
  value       = module.bucket.bucket
}

output "bucket_arn" {
  description = "ARN of the second bucket, for a module `identity` in the second region."
  value       = module.bucket.bucket_arn
}

output "kms_key_arn" {
  description = "ARN of the second bucket's key, for a module `identity` in the second region."
  value       = module.bucket.kms_key_arn
}

output "object_store" {
  description = "`storage.objectStore` of a VRCluster in the second region, without its prefix and service account."
  value       = module.bucket.object_store
}

output "replication_policy" {
  description = "The policy of the role that replicates, as JSON, to be read and tested."
  value       = aws_iam_role_policy.replication.policy
}

output "bucket_policy" {
  description = "The policy of the second bucket, as JSON, to be read and tested."
  value       = module.bucket.policy
}
