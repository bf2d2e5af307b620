output "first" {
  description = "`storage.objectStore` of a VRCluster in the first region, without prefix and service account."
  value       = module.checkpoint_bucket.object_store
}

output "second" {
  description = "`storage.objectStore` of a VRCluster in the second region, without prefix and service account."
  value       = module.dr_region.object_store
}
