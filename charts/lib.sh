# Sourced by check and sync-crds: where things are, and how YAML becomes JSON with Helm, the YAML reader at hand.
set -euo pipefail
charts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$charts/.." && pwd)
PATH=${KT_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/pinnace-kube}/bin:$PATH
# A user's own Helm settings, plugins and cluster must not change what is rendered.
unset KUBECONFIG HELM_NAMESPACE HELM_KUBECONTEXT

die() { echo "${0##*/}: $*" >&2; exit 1; }

for tool in helm jq; do
	command -v "$tool" >/dev/null || die "$tool is missing: tests/cluster/build control makes helm, jq is a package"
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# yaml_to_json FILE...: every document of the files as one line of JSON
yaml_to_json() {
	local reader=$work/reader
	rm -rf "$reader"
	mkdir -p "$reader/templates" "$reader/files"
	printf 'apiVersion: v2\nname: reader\nversion: 0.0.0\n' >"$reader/Chart.yaml"
	cat >"$reader/templates/all.yaml" <<'T'
{{- range $path, $_ := .Files.Glob "files/*" }}
{{- range regexSplit "(?m)^---$" ($.Files.Get $path) -1 }}
{{- with fromYaml . }}
---
{{ . | toJson }}
{{- end }}
{{- end }}
{{- end }}
T
	cp "$@" "$reader/files"
	helm template reader "$reader" | { grep '^{' || true; }
}
