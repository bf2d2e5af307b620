variable "region" {
  description = "Region of cluster and bucket."
  type        = string
  default     = "eu-central-1"
}

variable "bucket" {
  description = "Name of the bucket, unique in all of S3."
  type        = string
  default     = "example-vr-checkpoints"
}

variable "cluster_name" {
  description = "Name of the EKS cluster, with the Pod Identity agent."
  type        = string
  default     = "prod"
}

variable "namespace" {
  description = "Namespace of the VRCluster."
  type        = string
  default     = "vr"
}

variable "operator_namespace" {
  description = "Namespace of the operator."
  type        = string
  default     = "vr-system"
}
