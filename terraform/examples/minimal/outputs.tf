output "vr_cluster" {
  description = "What a VRCluster's spec gets from here."
  value = {
    storage = {
      objectStore = merge(module.checkpoint_bucket.object_store, {
        prefix             = var.namespace
        serviceAccountName = one(module.identity.service_accounts[var.namespace]["writer"])
      })
    }
  }
}

output "vr_operator" {
  description = "Values of the chart `vr-operator`: by this service account EKS knows it."
  value = {
    serviceAccount = { name = one(module.identity.service_accounts[var.operator_namespace]["operator"]) }
  }
}
