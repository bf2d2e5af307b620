variable "name" {
  description = "Name of the second bucket."
  type        = string
}

variable "source_bucket" {
  description = "Name of the first bucket: output `bucket` of module `checkpoint-bucket`."
  type        = string

  validation {
    condition     = var.source_bucket != var.name
    error_message = "source_bucket: names of buckets are unique over all regions; give the second bucket another name."
  }
}

variable "source_bucket_arn" {
  description = "ARN of the first bucket: output `bucket_arn` of module `checkpoint-bucket`."
  type        = string

  validation {
    condition     = can(regex("^arn:[a-z-]+:s3:::[a-z0-9.-]{3,63}$", var.source_bucket_arn))
    error_message = "source_bucket_arn: an ARN without a key (arn:aws:s3:::NAME); take output bucket_arn of module checkpoint-bucket."
  }
}

variable "source_kms_key_arn" {
  description = "ARN of the first bucket's key: output `kms_key_arn` of module `checkpoint-bucket`."
  type        = string

  validation {
    condition     = can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[0-9a-zA-Z-]+$", var.source_kms_key_arn))
    error_message = "source_kms_key_arn: the key's ARN (arn:aws:kms:REGION:ACCOUNT:key/ID); take output kms_key_arn of module checkpoint-bucket."
  }
}

variable "role_name" {
  description = "Name of the role that replicates."
  type        = string
  default     = "vr-replication"

  validation {
    condition     = can(regex("^[A-Za-z0-9+=,.@_-]{1,64}$", var.role_name))
    error_message = "role_name: 1 to 64 letters, digits and +=,.@_-."
  }
}

variable "promoted" {
  description = "Whether the second region is the one that counts. The second bucket then refuses replicas. Set it before you restore there."
  type        = bool
  default     = false
}

variable "storage_class" {
  description = "Storage class of the replicas."
  type        = string
  default     = "STANDARD_IA"

  validation {
    condition     = contains(["STANDARD", "STANDARD_IA", "INTELLIGENT_TIERING", "GLACIER_IR"], var.storage_class)
    error_message = "storage_class: STANDARD, STANDARD_IA, INTELLIGENT_TIERING or GLACIER_IR: from the others, objects must be fetched back for hours before a restore can read them."
  }
}

variable "object_lock_mode" {
  description = "As in module `checkpoint-bucket`."
  type        = string
  default     = "GOVERNANCE"
}

variable "object_lock_days" {
  description = "As in module `checkpoint-bucket`."
  type        = number
  default     = 14
}

variable "hidden_version_days" {
  description = "As in module `checkpoint-bucket`."
  type        = number
  default     = 30
}

variable "tags" {
  description = "Tags of everything that the module makes."
  type        = map(string)
  default     = {}
}
