{{- define "waveproxy.name" -}}
{{- if contains "waveproxy" .Release.Name }}{{ .Release.Name | trunc 55 | trimSuffix "-" }}
{{- else }}{{ printf "%s-waveproxy" (.Release.Name | trunc 45 | trimSuffix "-") }}
{{- end }}
{{- end }}

{{- /* The labels that select the pods of a component; takes (list . "server"). */}}
{{- define "waveproxy.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: waveproxy
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "waveproxy.labels" -}}
{{- $root := index . 0 -}}
{{ include "waveproxy.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ $root.Chart.Name }}-{{ $root.Chart.Version }}
{{- end }}

{{- define "waveproxy.image" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end }}

{{- define "waveproxy.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- /* The configuration file: the given values, and the values that depend on the other objects. */}}
{{- define "waveproxy.config" -}}
{{- $given := .Values.config }}
{{- if dig "http" "addr" "" $given }}{{ fail "config.http.addr: the chart sets it; service.port is what clients see" }}{{ end }}
{{- if dig "http" "debug" "" $given }}{{ fail "config.http.debug: the chart sets it; use metrics" }}{{ end }}
{{- if dig "storage" "" $given }}{{ fail "config.storage: the chart sets it; use storage" }}{{ end }}
{{- if dig "tokens" "keys" "" $given }}{{ fail "config.tokens.keys: the chart sets it; use tokenKey" }}{{ end }}
{{- $http := dict "addr" ":9090" }}
{{- if .Values.metrics.enabled }}{{ $_ := set $http "debug" (dict "addr" (printf ":%d" (int .Values.metrics.port))) }}{{ end }}
{{- $keys := list }}
{{- range .Values.tokenKey.entries }}{{ $keys = append $keys (dict "file" (printf "/run/secrets/waveproxy/%s" .)) }}{{ end }}
{{- $own := dict "http" $http "storage" (dict "dir" "/data") "tokens" (dict "keys" $keys) }}
{{- toYaml (mustMergeOverwrite (deepCopy $given) $own) }}
{{- end }}
