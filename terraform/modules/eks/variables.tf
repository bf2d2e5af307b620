variable "name" {
  description = "Name of the cluster. Roles are called NAME-cluster, NAME-node and NAME-ebs-csi."
  type        = string

  validation {
    condition     = can(regex("^[0-9A-Za-z][0-9A-Za-z_-]{0,55}$", var.name))
    error_message = "name: 1 to 56 letters, digits, hyphens and underscores, a letter or digit first; roles get a suffix, and IAM ends names at 64."
  }
}

variable "kubernetes_version" {
  description = "Version of Kubernetes, as MAJOR.MINOR. Without it, the newest that EKS gives to new clusters."
  type        = string
  default     = null

  validation {
    condition     = var.kubernetes_version == null || can(regex("^1\\.[0-9]{2}$", var.kubernetes_version))
    error_message = "kubernetes_version: MAJOR.MINOR without a patch level, like 1.33; EKS chooses the patch level."
  }
}

variable "subnet_ids" {
  description = "Private subnets in three zones or more: `values(module.network.private_subnets)`."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 3
    error_message = "subnet_ids: at least three, in zones of their own; take values(private_subnets) of module network."
  }
}

variable "public_access_cidrs" {
  description = "Ranges that may reach the API from the internet. Empty: nobody; run kubectl inside the network."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for range in var.public_access_cidrs : can(cidrhost(range, 0)) && !can(regex("/0$", range))])
    error_message = "public_access_cidrs: ranges like 203.0.113.0/24, and not the whole internet: name the ranges of those who operate the cluster."
  }
}

variable "administrators" {
  description = "ARNs of IAM roles and users that administer the cluster."
  type        = list(string)

  validation {
    condition     = length(var.administrators) > 0
    error_message = "administrators: name at least one role; whoever creates the cluster is no administrator by that, and nobody could log in."
  }

  validation {
    condition     = alltrue([for arn in var.administrators : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:(role|user)/.+$", arn))])
    error_message = "administrators: ARNs of roles or users (arn:aws:iam::ACCOUNT:role/NAME), not of sessions (arn:aws:sts::…)."
  }
}

variable "system_instance_type" {
  description = "Instance type of the nodes for CoreDNS and operators; of Graviton."
  type        = string
  default     = "m7g.large"

  validation {
    condition     = can(regex("^[a-z]+[0-9]+g[a-z]*\\.[0-9a-z]+$", var.system_instance_type))
    error_message = "system_instance_type: a type of Graviton, like m7g.large: the image of the group is for arm64."
  }
}

variable "storage_class_name" {
  description = "Name of the storage class for replicas' volumes."
  type        = string
  default     = "vr-gp3"

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$", var.storage_class_name))
    error_message = "storage_class_name: a Kubernetes name of small letters, digits, hyphens and dots."
  }
}

variable "volume_throughput" {
  description = "MiB/s of each volume. It bounds how fast a replica loads its state from the volume."
  type        = number
  default     = 500

  validation {
    condition     = var.volume_throughput >= 125 && var.volume_throughput <= 750 && floor(var.volume_throughput) == var.volume_throughput
    error_message = "volume_throughput: a whole number from 125 (which gp3 has anyway) to 750: for more, gp3 wants more IOPS than the 3000 that it has anyway."
  }
}

variable "deletion_protection" {
  description = "Whether EKS refuses to delete the cluster. Apply `false` first, then destroy."
  type        = bool
  default     = true
}

variable "tags" {
  description = "Tags of everything that the module makes."
  type        = map(string)
  default     = {}
}
