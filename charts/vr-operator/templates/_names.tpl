{{/* The name of what belongs to this release. */}}
{{- define "vr-operator.name" -}}
{{- if contains "vr-operator" .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-vr-operator" .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The name of what is in no namespace: two releases of one name in two namespaces share nothing. */}}
{{- define "vr-operator.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "vr-operator.name" .) -}}
{{- end -}}

{{- define "vr-operator.serviceAccount" -}}
{{- default (include "vr-operator.name" .) .Values.serviceAccount.name -}}
{{- end -}}

{{/* By these the pods are found. The name is fixed: the network policies of the clusters let pods with it come to the
control ports. */}}
{{- define "vr-operator.selector" -}}
app.kubernetes.io/name: vr-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "vr-operator.labels" -}}
{{ include "vr-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: vr-operator
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "vr-operator.image" -}}
{{- $image := .Values.image -}}
{{- $name := required "image.repository: no image is published; build one with the repository's Containerfile and name it here" $image.repository -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{/* The groups of the service accounts that may change managed objects. */}}
{{- define "vr-operator.exempt" -}}
{{- $groups := list -}}
{{- range .Values.admissionPolicies.exemptNamespaces -}}
{{- $groups = append $groups (printf "system:serviceaccounts:%s" .) -}}
{{- end -}}
{{- toJson $groups -}}
{{- end -}}
