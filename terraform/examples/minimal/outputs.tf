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
