variable "region" {
  description = "Region of the first bucket."
  type        = string
  default     = "eu-central-1"
}

variable "second_region" {
  description = "Region of the second bucket."
  type        = string
  default     = "eu-west-1"

  validation {
    condition     = var.second_region != var.region
    error_message = "second_region: another one than region; a second bucket in the same region is lost with the first."
  }
}

variable "bucket" {
  description = "Name of the first bucket; the second is called BUCKET-second."
  type        = string
  default     = "example-vr-checkpoints"
}

variable "promoted" {
  description = "Set to true before you restore in the second region."
  type        = bool
  default     = false
}
