# From nothing to a cluster that VR runs on: network, EKS, a node group in each zone, bucket and roles.

provider "aws" {
  region = var.region
}

module "network" {
  source = "../../modules/network"

  name  = var.name
  zones = var.zones
}

module "eks" {
  source = "../../modules/eks"

  name                = var.name
  subnet_ids          = values(module.network.private_subnets)
  administrators      = var.administrators
  public_access_cidrs = var.public_access_cidrs
}

module "nodes" {
  source = "../../modules/nvme-node-group"

  name          = "${var.name}-replicas"
  cluster_name  = module.eks.cluster_name
  node_role_arn = module.eks.node_role_arn
  subnets       = module.network.private_subnets
  instance_type = var.instance_type
}

module "checkpoint_bucket" {
  source = "../../modules/checkpoint-bucket"
  name   = var.bucket
}

module "identity" {
  source = "../../modules/identity"

  name         = var.name
  cluster_name = module.eks.cluster_name
  bucket_arn   = module.checkpoint_bucket.bucket_arn
  kms_key_arn  = module.checkpoint_bucket.kms_key_arn

  service_accounts = [
    { namespace = var.namespace, name = "vr-replica", role = "writer" },
    { namespace = var.namespace, name = "vr-restore", role = "bootstrap" },
    { namespace = var.namespace, name = "vr-drill", role = "drill" },
    { namespace = var.operator_namespace, name = "vr-operator", role = "operator" },
  ]
}
