# A bucket and roles for an EKS cluster that exists already.

provider "aws" {
  region = var.region
}

module "checkpoint_bucket" {
  source = "../../modules/checkpoint-bucket"
  name   = var.bucket
}

module "identity" {
  source = "../../modules/identity"

  name         = "vr"
  cluster_name = var.cluster_name
  bucket_arn   = module.checkpoint_bucket.bucket_arn
  kms_key_arn  = module.checkpoint_bucket.kms_key_arn

  service_accounts = [
    { namespace = var.namespace, name = "vr-replica", role = "writer" },
    { namespace = var.namespace, name = "vr-restore", role = "bootstrap" },
    { namespace = var.namespace, name = "vr-drill", role = "drill" },
    { namespace = var.operator_namespace, name = "vr-operator", role = "operator" },
  ]
}
