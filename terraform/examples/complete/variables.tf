variable "name" {
  description = "Name of everything."
  type        = string
  default     = "vr"
}

variable "region" {
  description = "Region."
  type        = string
  default     = "eu-central-1"
}

variable "zones" {
  description = "Three or more zones of the region."
  type        = list(string)
  default     = ["eu-central-1a", "eu-central-1b", "eu-central-1c"]
}

variable "administrators" {
  description = "ARNs of the IAM roles that administer the cluster."
  type        = list(string)
  default     = ["arn:aws:iam::111122223333:role/operations"]
}

variable "public_access_cidrs" {
  description = "Ranges from which kubectl works; empty: from inside the network alone."
  type        = list(string)
  default     = []
}

variable "instance_type" {
  description = "Instance type of the replicas' nodes."
  type        = string
  default     = "r7gd.4xlarge"
}

variable "bucket" {
  description = "Name of the bucket, unique in all of S3."
  type        = string
  default     = "example-vr-checkpoints"
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
