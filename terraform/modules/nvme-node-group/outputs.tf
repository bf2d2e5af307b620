output "node_groups" {
  description = "Name of the node group of each zone."
  value       = { for zone, group in aws_eks_node_group.this : zone => group.node_group_name }
}

output "pod_template" {
  description = "`podTemplate` of a VRCluster: selects these nodes and tolerates their taint."
  value = {
    nodeSelector = { "vr-operator.io/replicas" = "true" }
    tolerations  = [{ key = var.taint.key, operator = "Equal", value = var.taint.value, effect = "NoSchedule" }]
  }
}

output "nvme" {
  description = "`storage.nvme` of a VRCluster, without `sizeLimit`; null where the instance type has no local disk."
  value       = local.disks ? { type = "HostPath", hostPath = "${local.mount}/vr" } : null
}
