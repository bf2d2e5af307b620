variable "name" {
  description = "The groups are called NAME-ZONE."
  type        = string

  validation {
    condition     = can(regex("^[0-9A-Za-z][0-9A-Za-z_-]{0,39}$", var.name))
    error_message = "name: 1 to 40 letters, digits, hyphens and underscores, a letter or digit first; the zone comes after it, and EKS ends names at 63."
  }
}

variable "cluster_name" {
  description = "Name of the EKS cluster: output `cluster_name` of module `eks`."
  type        = string

  validation {
    condition     = can(regex("^[0-9A-Za-z][0-9A-Za-z_-]{0,99}$", var.cluster_name))
    error_message = "cluster_name: 1 to 100 letters, digits, hyphens and underscores; take output cluster_name of module eks."
  }
}

variable "node_role_arn" {
  description = "Role of the nodes: output `node_role_arn` of module `eks`."
  type        = string

  validation {
    condition     = can(regex("^arn:[a-z-]+:iam::[0-9]{12}:role/.+$", var.node_role_arn))
    error_message = "node_role_arn: the ARN of a role (arn:aws:iam::ACCOUNT:role/NAME); take output node_role_arn of module eks."
  }
}

variable "subnets" {
  description = "Private subnet of each zone, by the zone's name: output `private_subnets` of module `network`."
  type        = map(string)

  validation {
    condition     = length(var.subnets) >= 1 && alltrue([for zone in keys(var.subnets) : can(regex("^[a-z]{2}(-[a-z]+)+-[0-9][a-z]$", zone))])
    error_message = "subnets: a map from zone to subnet, like { eu-central-1a = \"subnet-…\" }; take output private_subnets of module network."
  }
}

variable "instance_type" {
  description = "Instance type. Its memory holds the state, the log and as much again while a checkpoint is loaded; one with local NVMe has its disks mounted."
  type        = string
  default     = "r7gd.4xlarge"

  validation {
    condition     = can(regex("^[a-z]+[0-9]+[a-z]*(-[0-9a-z]+)?\\.[0-9a-z-]+$", var.instance_type))
    error_message = "instance_type: one type like r7gd.4xlarge, family and size with a dot between."
  }

  validation {
    condition     = !can(regex("^t[0-9]", var.instance_type))
    error_message = "instance_type: no burstable type (t2, t3, t4g): when its credits are used up, the group takes the node for dead. Take r7g or m7g."
  }
}

variable "nodes_per_zone" {
  description = "Nodes in each zone, one for each replica that the zone shall carry."
  type        = number
  default     = 1

  validation {
    condition     = var.nodes_per_zone >= 1 && var.nodes_per_zone <= 100 && floor(var.nodes_per_zone) == var.nodes_per_zone
    error_message = "nodes_per_zone: a whole number from 1 to 100."
  }
}

variable "root_volume_size" {
  description = "GiB of each node's root volume: images and logs. Replicas have volumes of their own."
  type        = number
  default     = 50

  validation {
    condition     = var.root_volume_size >= 20 && floor(var.root_volume_size) == var.root_volume_size
    error_message = "root_volume_size: a whole number of GiB, at least 20: the image of the node alone takes that."
  }
}

variable "taint" {
  description = "Taint that keeps other pods away; with effect NoSchedule."
  type = object({
    key   = string
    value = string
  })
  default = { key = "dedicated", value = "vr" }

  validation {
    condition     = can(regex("^[A-Za-z0-9]([A-Za-z0-9./_-]*[A-Za-z0-9])?$", var.taint.key)) && var.taint.value != ""
    error_message = "taint: key and value as Kubernetes has them, like { key = \"dedicated\", value = \"vr\" }."
  }
}

variable "labels" {
  description = "More labels of the nodes, besides `vr-operator.io/replicas`."
  type        = map(string)
  default     = {}
}

variable "tags" {
  description = "Tags of everything that the module makes."
  type        = map(string)
  default     = {}
}
