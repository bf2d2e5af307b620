output "role_arns" {
  description = "ARN of each role, by its kind of work."
  value       = { for kind, role in aws_iam_role.this : kind => role.arn }
}

output "policies" {
  description = "The policy of each role as JSON, to be read and tested."
  value       = { for kind, policy in aws_iam_role_policy.this : kind => policy.policy }
}

output "service_accounts" {
  description = "Service account by namespace and role: `storage.objectStore.serviceAccountName` of a VRCluster is the writer of its namespace, `serviceAccount.name` of the chart `vr-operator` the operator of the chart's."
  value = {
    for namespace in distinct([for a in var.service_accounts : a.namespace]) : namespace => {
      for a in var.service_accounts : a.role => a.name... if a.namespace == namespace
    }
  }
}
