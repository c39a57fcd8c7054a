{{/* Name of what is made, shortened so that every suffix fits into 63 characters. */}}
{{- define "pinnace-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | replace "." "-" | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | replace "." "-" | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* Name of what has no namespace: two releases of one name in two namespaces do not collide. */}}
{{- define "pinnace-operator.clusterwide" -}}
{{- printf "%s-%s" (include "pinnace-operator.fullname" .) .Release.Namespace -}}
{{- end }}

{{- define "pinnace-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "pinnace-operator.fullname" .) -}}
{{- else -}}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{/* These two labels never change: Deployments cannot change their selector, and brokers' network policies name the first. */}}
{{- define "pinnace-operator.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Labels as YAML. Argument: the context. */}}
{{- define "pinnace-operator.labels" -}}
{{- $labels := dict
  "app.kubernetes.io/component" "operator"
  "app.kubernetes.io/part-of" "pinnace"
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/managed-by" .Release.Service
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") -}}
{{- $selector := include "pinnace-operator.selector" . | fromYaml -}}
{{- mergeOverwrite (deepCopy .Values.commonLabels) $labels $selector | toYaml -}}
{{- end }}

{{/* Labels and annotations of an object. Arguments: the context, more annotations, more labels. */}}
{{- define "pinnace-operator.metadata" -}}
{{- $context := index . 0 -}}
{{- $annotations := merge (deepCopy (index . 1)) $context.Values.commonAnnotations -}}
{{- $labels := include "pinnace-operator.labels" $context | fromYaml -}}
labels:
  {{- mergeOverwrite (deepCopy (index . 2)) $labels | toYaml | nindent 2 }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "pinnace-operator.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end }}
