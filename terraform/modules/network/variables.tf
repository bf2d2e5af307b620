variable "name" {
  description = "Name of the network, in the tags of its parts."
  type        = string

  validation {
    condition     = can(regex("^[0-9A-Za-z][0-9A-Za-z_-]{0,99}$", var.name))
    error_message = "name: 1 to 100 letters, digits, hyphens and underscores, a letter or digit first."
  }
}

variable "cidr" {
  description = "Range of addresses, /16 to /20. Each private subnet has a sixteenth of it: pods have addresses of their own."
  type        = string
  default     = "10.0.0.0/16"

  validation {
    condition     = can(cidrhost(var.cidr, 0)) && try(cidrsubnet(var.cidr, 0, 0) == var.cidr, false)
    error_message = "cidr: a range by its first address, like 10.0.0.0/16."
  }

  validation {
    condition     = try(tonumber(split("/", var.cidr)[1]) >= 16 && tonumber(split("/", var.cidr)[1]) <= 20, false)
    error_message = "cidr: /16 to /20. AWS takes nothing larger, and in anything smaller the public subnets do not fit."
  }
}

variable "zones" {
  description = "Availability zones, three to eight. A replica stands in each of the first ones; a majority must survive the loss of one."
  type        = list(string)

  validation {
    condition     = length(var.zones) >= 3 && length(var.zones) <= 8
    error_message = "zones: name three to eight. With two, the loss of one takes half of the replicas, and half is no majority."
  }

  validation {
    condition     = length(distinct(var.zones)) == length(var.zones)
    error_message = "zones: each once."
  }

  validation {
    condition     = alltrue([for zone in var.zones : can(regex("^[a-z]{2}(-[a-z]+)+-[0-9][a-z]$", zone))])
    error_message = "zones: names of zones like eu-central-1a, not of regions and not ids like euc1-az1."
  }
}

variable "single_nat_gateway" {
  description = "One NAT gateway for all zones: cheaper, but when its zone is lost, no node reaches the internet. The way to S3 is not affected."
  type        = bool
  default     = false
}

variable "tags" {
  description = "Tags of everything that the module makes."
  type        = map(string)
  default     = {}
}
