{{/* Labels and annotations of an object. Arguments: the context, more annotations, more labels. */}}
{{- define "pinnace-cluster.metadata" -}}
{{- $context := index . 0 -}}
{{- $annotations := merge (deepCopy (index . 1)) $context.Values.commonAnnotations -}}
{{- $own := dict
  "app.kubernetes.io/name" $context.Chart.Name
  "app.kubernetes.io/instance" $context.Release.Name
  "app.kubernetes.io/part-of" "pinnace"
  "app.kubernetes.io/version" $context.Chart.AppVersion
  "app.kubernetes.io/managed-by" $context.Release.Service
  "helm.sh/chart" (printf "%s-%s" $context.Chart.Name $context.Chart.Version | replace "+" "_") -}}
labels:
  {{- mergeOverwrite (deepCopy $context.Values.commonLabels) (index . 2) $own | toYaml | nindent 2 }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A spec with this release's cluster filled in. Arguments: the context, the spec. */}}
{{- define "pinnace-cluster.spec" -}}
{{- $context := index . 0 -}}
{{- merge (deepCopy (index . 1)) (dict "clusterRef" (dict "name" $context.Values.cluster.name)) | toYaml -}}
{{- end }}

{{/* Spec of the BrokerCluster; where clients are named, the pods of `helm test` are among them. */}}
{{- define "pinnace-cluster.brokers-spec" -}}
{{- $spec := deepCopy .Values.cluster.spec -}}
{{- $policy := $spec.networkPolicy | default dict -}}
{{- if and .Values.test.enabled $policy.clientsFrom -}}
{{- $labels := dict "app.kubernetes.io/name" .Chart.Name "app.kubernetes.io/instance" .Release.Name -}}
{{- $test := dict "podSelector" (dict "matchLabels" $labels) -}}
{{- $_ := set $policy "clientsFrom" (append $policy.clientsFrom $test) -}}
{{- end -}}
{{- toYaml $spec -}}
{{- end }}

{{/* Where clients in the Kubernetes cluster connect: the first listener, or the one that the operator makes. */}}
{{- define "pinnace-cluster.endpoint" -}}
{{- $listener := first (.Values.cluster.spec.listeners | default list) | default dict -}}
{{- printf "%s-%s.%s.svc:%d" .Values.cluster.name ($listener.name | default "client") .Release.Namespace (int ($listener.port | default 8081)) -}}
{{- end }}

{{/* Name of everything that `helm test` makes. */}}
{{- define "pinnace-cluster.test" -}}
{{- .Release.Name | replace "." "-" }}-test
{{- end }}

{{/* Labels of the broker pods, as the operator sets them. */}}
{{- define "pinnace-cluster.brokers" -}}
app.kubernetes.io/name: pinnace
app.kubernetes.io/component: broker
pinnace.dev/cluster: {{ .Values.cluster.name }}
{{- end }}
