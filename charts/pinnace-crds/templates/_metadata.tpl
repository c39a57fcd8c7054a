{{/*
Metadata of every definition, without its name. "keep" is not negotiable: with a definition Kubernetes deletes every
object of its kind.
*/}}
{{- define "pinnace-crds.metadata" -}}
{{- $labels := dict
  "app.kubernetes.io/name" .Chart.Name
  "app.kubernetes.io/instance" .Release.Name
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/managed-by" .Release.Service
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") -}}
{{- $annotations := dict "helm.sh/resource-policy" "keep" -}}
labels:
  {{- mergeOverwrite (deepCopy .Values.commonLabels) $labels | toYaml | nindent 2 }}
annotations:
  {{- mergeOverwrite (deepCopy .Values.commonAnnotations) $annotations | toYaml | nindent 2 }}
{{- end }}
