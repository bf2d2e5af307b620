output "cluster_name" {
  description = "Name of the cluster, for modules `nvme-node-group` and `identity` and for `aws eks update-kubeconfig --name`."
  value       = aws_eks_cluster.this.name
}

output "endpoint" {
  description = "URL of the API."
  value       = aws_eks_cluster.this.endpoint
}

output "certificate_authority" {
  description = "Certificate of the API's authority, in base64."
  value       = aws_eks_cluster.this.certificate_authority[0].data
}

output "node_role_arn" {
  description = "Role of the nodes, for module `nvme-node-group`."
  value       = aws_iam_role.node.arn

  # Nodes that start before they may join do not join.
  depends_on = [aws_iam_role_policy_attachment.node, aws_eks_addon.before]
}

output "storage_class_name" {
  description = "`storage.volume.storageClassName` of a VRCluster."
  value       = var.storage_class_name
}

output "storage_class" {
  description = "The storage class as YAML, for `kubectl apply -f -`."
  value       = local.storage_class
}
