{{/* What the operator may do where it works; `pinnace-operator rbac` prints the same. */}}
{{- define "pinnace-operator.work" -}}
- apiGroups: [pinnace.dev]
  resources: [brokerclusters, topics, consumergroups]
  verbs: [get, list, watch]
# Finalizers of objects whose deletion deletes something in the brokers.
- apiGroups: [pinnace.dev]
  resources: [topics, consumergroups]
  verbs: [patch]
- apiGroups: [pinnace.dev]
  resources: [brokerclusters/status, topics/status, consumergroups/status]
  verbs: [get, patch]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, patch]
# Why a broker is not ready stands in its pod.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
# Volumes carry the note of the shards that are on them.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, patch]
# Services of listeners that are gone are deleted.
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch, delete]
# Certificates of brokers and their keys. No list and no watch: a Secret is read when its name is known.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch]
# For clusters that name an issuer; deleted when they name none any more.
- apiGroups: [cert-manager.io]
  resources: [certificates]
  verbs: [get, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch]
# The one of a cluster that asks for none any more is deleted.
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
# Whether the whole namespace of an object is being deleted.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
# Why a pod is not even made stands in events of its StatefulSet; read while one is missing.
- apiGroups: [""]
  resources: [events]
  verbs: [list, create, patch]
{{- end }}

{{/* Over the whole Kubernetes cluster in any case. */}}
{{- define "pinnace-operator.definitions" -}}
- apiGroups: [apiextensions.k8s.io]
  resources: [customresourcedefinitions]
  verbs: [get, list, watch]
{{- end }}

{{/* In the operator's own namespace: one Lease of known name, which has to be created first. */}}
{{- define "pinnace-operator.leases" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ include "pinnace-operator.fullname" . }}]
  verbs: [get, update, patch]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
{{- end }}
