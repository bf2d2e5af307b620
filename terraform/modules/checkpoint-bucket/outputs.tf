output "bucket" {
  description = "Name of the bucket."
  value       = aws_s3_bucket.this.id
}

output "bucket_arn" {
  description = "ARN of the bucket, for module `identity`."
  value       = aws_s3_bucket.this.arn
}

output "kms_key_arn" {
  description = "ARN of the key that encrypts the objects, for module `identity`."
  value       = local.kms_key_arn
}

output "region" {
  description = "Region of the bucket."
  value       = aws_s3_bucket.this.region
}

output "object_store" {
  description = "`storage.objectStore` of a VRCluster, without its prefix and service account."
  value = {
    bucket   = aws_s3_bucket.this.id
    region   = aws_s3_bucket.this.region
    kmsKeyId = local.kms_key_arn
  }
}

output "policy" {
  description = "The policy of the bucket as JSON, to be read and tested."
  value       = aws_s3_bucket_policy.this.policy
}
