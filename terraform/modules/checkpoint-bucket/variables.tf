variable "name" {
  description = "Name of the bucket, unique in all of S3. It cannot be changed: the lineages live there."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.name)) && !can(regex("\\.\\.|^xn--", var.name))
    error_message = "name: 3 to 63 small letters, digits, dots and hyphens, with a letter or digit at both ends; S3 takes no other. If AWS says that it is in use, put your company's name before it."
  }
}

variable "kms_key_arn" {
  description = "ARN of the key that encrypts the objects. Without it the module makes one, which turns once a year."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[0-9a-zA-Z-]+$", var.kms_key_arn))
    error_message = "kms_key_arn: give the key's ARN (arn:aws:kms:REGION:ACCOUNT:key/ID). An alias or a bare id does not do: the policy compares ARNs."
  }
}

variable "object_lock_mode" {
  description = "GOVERNANCE: whoever has the permission can end it early, though this bucket's policy must be changed first. COMPLIANCE: nobody can, the account's root neither."
  type        = string
  default     = "GOVERNANCE"

  validation {
    condition     = contains(["GOVERNANCE", "COMPLIANCE"], var.object_lock_mode)
    error_message = "object_lock_mode: GOVERNANCE or COMPLIANCE, in capital letters."
  }
}

variable "object_lock_days" {
  description = "Days for which no version of any object can be destroyed after it was written."
  type        = number
  default     = 14

  validation {
    condition     = var.object_lock_days >= 1 && var.object_lock_days <= 36500 && floor(var.object_lock_days) == var.object_lock_days
    error_message = "object_lock_days: a whole number of days from 1 to 36500."
  }
}

variable "hidden_version_days" {
  description = "Days after which versions end that were deleted or replaced. So long a mistake can be undone."
  type        = number
  default     = 30

  validation {
    condition     = var.hidden_version_days >= 1 && floor(var.hidden_version_days) == var.hidden_version_days
    error_message = "hidden_version_days: a whole number of days, at least 1."
  }
}

variable "refuse_replicas" {
  description = "Whether the bucket refuses replicas from another one. Module `dr-region` sets it once its region counts."
  type        = bool
  default     = false
}

variable "tags" {
  description = "Tags of everything that the module makes."
  type        = map(string)
  default     = {}
}
