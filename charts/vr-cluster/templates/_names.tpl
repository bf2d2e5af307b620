{{- define "vr-cluster.name" -}}
{{- default .Release.Name .Values.name -}}
{{- end -}}

{{- define "vr-cluster.labels" -}}
app.kubernetes.io/name: vr
app.kubernetes.io/instance: {{ include "vr-cluster.name" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The spec as it is applied: what this chart knows and a person need not write. */}}
{{- define "vr-cluster.spec" -}}
{{- $spec := deepCopy .Values.spec -}}
{{- $store := $spec.storage.objectStore -}}
{{- /* Two clusters never share a prefix by accident. */}}
{{- if not (hasKey $store "prefix") -}}
{{- $_ := set $store "prefix" (printf "%s/%s" .Release.Namespace (include "vr-cluster.name" .)) -}}
{{- end -}}
{{- if and .Values.serviceAccount.create (not $store.serviceAccountName) -}}
{{- $_ := set $store "serviceAccountName" (include "vr-cluster.name" .) -}}
{{- end -}}
{{- toYaml $spec -}}
{{- end -}}

{{/* An amount in bytes. */}}
{{- define "vr-cluster.bytes" -}}
{{- $text := toString . -}}
{{- $unit := regexFind "[A-Za-z]+$" $text -}}
{{- $factors := dict "" 1 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "P" 1000000000000000 -}}
{{- mulf (trimSuffix $unit $text | float64) (get $factors $unit) -}}
{{- end -}}
