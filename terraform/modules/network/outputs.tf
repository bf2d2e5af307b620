output "vpc_id" {
  description = "Id of the network."
  value       = aws_vpc.this.id
}

output "private_subnets" {
  description = "Private subnet of each zone, for modules `eks` and `nvme-node-group`."
  value       = { for zone, subnet in aws_subnet.private : zone => subnet.id }
}

output "public_subnets" {
  description = "Public subnet of each zone."
  value       = { for zone, subnet in aws_subnet.public : zone => subnet.id }
}

output "topology" {
  description = "`topology` of a VRCluster: a replica in each zone."
  value = {
    zoneKey = "topology.kubernetes.io/zone"
    spread  = "Required"
    zones   = var.zones
  }
}
