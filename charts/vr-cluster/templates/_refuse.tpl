{{/* The rules of the definition that concern several fields, with its own words: what it would refuse is refused before
anything is installed. A check holds the words to crds/vrclusters.yaml. */}}
{{- define "vr-cluster.refuse" -}}
{{- $spec := include "vr-cluster.spec" . | fromYaml -}}
{{- $unsafe := default dict $spec.unsafeFlags -}}
{{- if gt (len (include "vr-cluster.name" .)) 40 -}}
{{- fail "metadata.name: at most 40 characters, pods and volumes are named after it" -}}
{{- end -}}
{{- if eq (mod (int $spec.replicas) 2) 0 -}}
{{- fail "replicas: an odd number; an even one survives no more failures" -}}
{{- end -}}
{{- if and (lt (int $spec.replicas) 3) (not $unsafe.singleReplica) -}}
{{- fail "replicas: 1 survives no failure; use 3, or set unsafeFlags.singleReplica to accept that" -}}
{{- end -}}
{{- if and (not $spec.storage.volume) (not $unsafe.noVolume) -}}
{{- fail "storage.volume: without it a lost node takes a vote record along; set it, or unsafeFlags.noVolume to accept that" -}}
{{- end -}}
{{- if gt (include "vr-cluster.bytes" $spec.memory.stateLimit | float64) (include "vr-cluster.bytes" $spec.memory.limit | float64) -}}
{{- fail "memory.stateLimit: must not be above memory.limit; 70 % of it is a good value" -}}
{{- end -}}
{{- with $spec.storage.nvme -}}
{{- if ne (eq .type "HostPath") (hasKey . "hostPath") -}}
{{- fail "storage.nvme.hostPath: needed with type HostPath, and only then" -}}
{{- end -}}
{{- if and (ne .type "EphemeralVolume") (hasKey . "storageClassName") -}}
{{- fail "storage.nvme.storageClassName: only with type EphemeralVolume" -}}
{{- end -}}
{{- end -}}
{{- $store := $spec.storage.objectStore -}}
{{- if and $store.serviceAccountName $store.credentialsSecretRef -}}
{{- fail "storage.objectStore: serviceAccountName or credentialsSecretRef (keys), not both" -}}
{{- end -}}
{{- with $spec.recovery -}}
{{- if and (eq .onTotalLoss "Automatic") (not (hasKey . "maxDataLossSeconds")) -}}
{{- fail "recovery.maxDataLossSeconds: needed with onTotalLoss Automatic, it bounds what may be lost" -}}
{{- end -}}
{{- end -}}
{{- if hasKey $spec "tls" -}}
{{- if ne (len (pick $spec.tls "operatorManaged" "issuerRef" "secretRef")) 1 -}}
{{- fail "tls: exactly one of operatorManaged, issuerRef and secretRef" -}}
{{- end -}}
{{- end -}}
{{- with $spec.bootstrap -}}
{{- if eq (hasKey .restore "checkpointRef") (hasKey .restore "lineage") -}}
{{- fail "bootstrap.restore: checkpointRef or lineage, one of the two" -}}
{{- end -}}
{{- if gt (len (pick (default dict .restore.lineage) "beforeTime" "opNumber" "manifest")) 1 -}}
{{- fail "bootstrap.restore.lineage: at most one of beforeTime, opNumber and manifest" -}}
{{- end -}}
{{- end -}}
{{- range $key, $_ := dig "podTemplate" "labels" dict $spec -}}
{{- if regexMatch "^(vr-operator|app\\.kubernetes)\\.io/" $key -}}
{{- fail "podTemplate.labels: vr-operator.io/ and app.kubernetes.io/ are the operator's" -}}
{{- end -}}
{{- end -}}
{{- end -}}
