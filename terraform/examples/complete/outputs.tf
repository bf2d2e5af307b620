output "cluster_name" {
  description = "For `aws eks update-kubeconfig --name`."
  value       = module.eks.cluster_name
}

output "storage_class" {
  description = "The storage class as YAML, for `kubectl apply -f -`."
  value       = module.eks.storage_class
}

output "vr_cluster" {
  description = "What a VRCluster's spec gets from here."
  value = {
    topology    = module.network.topology
    podTemplate = module.nodes.pod_template
    # Without local disks there is no tier NVMe.
    storage = { for tier, settings in {
      nvme   = module.nodes.nvme
      volume = { storageClassName = module.eks.storage_class_name }
      objectStore = merge(module.checkpoint_bucket.object_store, {
        prefix             = var.namespace
        serviceAccountName = one(module.identity.service_accounts[var.namespace]["writer"])
      })
    } : tier => settings if settings != null }
  }
}

output "vr_operator" {
  description = "Values of the chart `vr-operator`: by this service account EKS knows it."
  value = {
    serviceAccount = { name = one(module.identity.service_accounts[var.operator_namespace]["operator"]) }
  }
}
