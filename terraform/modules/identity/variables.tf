variable "name" {
  description = "The roles are called NAME-writer, NAME-collector, NAME-bootstrap, NAME-drill and NAME-operator."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9+=,.@_-]{1,54}$", var.name))
    error_message = "name: 1 to 54 letters, digits and +=,.@_-; IAM takes no other characters, and ends names at 64."
  }
}

variable "cluster_name" {
  description = "Name of the EKS cluster whose pods take the roles."
  type        = string

  validation {
    condition     = can(regex("^[0-9A-Za-z][0-9A-Za-z_-]{0,99}$", var.cluster_name))
    error_message = "cluster_name: 1 to 100 letters, digits, hyphens and underscores, as EKS has it; take output cluster_name of module eks."
  }
}

variable "bucket_arn" {
  description = "ARN of the bucket: output `bucket_arn` of module `checkpoint-bucket`."
  type        = string

  validation {
    condition     = can(regex("^arn:[a-z-]+:s3:::[a-z0-9.-]{3,63}$", var.bucket_arn))
    error_message = "bucket_arn: an ARN without a key (arn:aws:s3:::NAME); take output bucket_arn of module checkpoint-bucket."
  }
}

variable "bucket_region" {
  description = "Region of the bucket. Without it, the provider's."
  type        = string
  default     = null

  validation {
    condition     = var.bucket_region == null || can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.bucket_region))
    error_message = "bucket_region: a region like eu-central-1, not a zone; leave it out for the provider's."
  }
}

variable "kms_key_arn" {
  description = "ARN of the key that encrypts the objects: output `kms_key_arn` of module `checkpoint-bucket`."
  type        = string

  validation {
    condition     = can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[0-9a-zA-Z-]+$", var.kms_key_arn))
    error_message = "kms_key_arn: give the key's ARN (arn:aws:kms:REGION:ACCOUNT:key/ID); take output kms_key_arn of module checkpoint-bucket."
  }
}

variable "service_accounts" {
  description = "Which service account gets which role: writer (replicas), collector, bootstrap (restore), drill or operator (vr-operator)."
  type = list(object({
    namespace = string
    name      = string
    role      = string
  }))
  default = []

  validation {
    condition     = alltrue([for a in var.service_accounts : contains(["writer", "collector", "bootstrap", "drill", "operator"], a.role)])
    error_message = "service_accounts: role is writer, collector, bootstrap, drill or operator."
  }

  validation {
    condition     = length(distinct([for a in var.service_accounts : "${a.namespace}/${a.name}"])) == length(var.service_accounts)
    error_message = "service_accounts: EKS gives a service account one role; give each kind of work a service account of its own."
  }

  validation {
    condition     = alltrue([for a in var.service_accounts : can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", a.namespace))])
    error_message = "service_accounts: namespace is a Kubernetes name of small letters, digits and hyphens. Without wildcards: it becomes the prefix that the pods may touch."
  }
}

variable "permissions_boundary_arn" {
  description = "Permissions boundary of the roles, if the account demands one."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary_arn == null || can(regex("^arn:[a-z-]+:iam::([0-9]{12}|aws):policy/.+$", var.permissions_boundary_arn))
    error_message = "permissions_boundary_arn: the ARN of a managed policy (arn:aws:iam::ACCOUNT:policy/NAME)."
  }
}

variable "tags" {
  description = "Tags of everything that the module makes."
  type        = map(string)
  default     = {}
}
