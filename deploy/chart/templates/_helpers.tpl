{{- define "meshbus.name" -}}
{{- if contains "meshbus" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-meshbus" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "meshbus.chosen" -}}
app.kubernetes.io/name: meshbus
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "meshbus.labels" -}}
{{ include "meshbus.chosen" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "meshbus.keys" -}}
{{ .Values.keys.existingSecret | default (printf "%s-keys" (include "meshbus.name" .)) }}
{{- end }}

{{- define "meshbus.server-keys" -}}
{{ .Values.nats.existingSecret | default (printf "%s-nats-keys" (include "meshbus.name" .)) }}
{{- end }}

{{- /* (list root "core"): the reference of an image. */ -}}
{{- define "meshbus.image" -}}
{{- $root := index . 0 }}{{ $tag := $root.Values.image.tag | default $root.Chart.AppVersion -}}
{{ index $root.Values.image (index . 1) }}{{ if hasPrefix "@" $tag }}{{ $tag }}{{ else }}:{{ $tag }}{{ end }}
{{- end }}

{{- define "meshbus.nats-url" -}}
{{- if not .Values.nats.enabled }}{{ required "nats.url is needed where nats.enabled is false" .Values.nats.url }}
{{- else }}{{ $name := printf "%s-nats" (include "meshbus.name" .) }}{{ $urls := list }}
{{- range $number := until (int .Values.nats.replicas) }}
{{- $urls = append $urls (printf "nats://%s-%d.%s.%s.svc:4222" $name $number $name $.Release.Namespace) }}
{{- end }}{{ join "," $urls }}
{{- end }}
{{- end }}

{{- /* What every pod has: nobody is root, nothing can be written, no variables of other Services. */ -}}
{{- define "meshbus.pod" -}}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "meshbus.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- /* (list root settings keys): variables, those of `keys` out of the Secret. */ -}}
{{- define "meshbus.env" -}}
{{- $root := index . 0 }}{{ $settings := dict "MESHBUS_NATS_URL" (include "meshbus.nats-url" $root) }}
{{- if $root.Values.nats.tlsSecret }}{{ $_ := set $settings "MESHBUS_NATS_CA" "/nats-tls/ca.crt" }}{{ end }}
{{- range $variable, $value := mergeOverwrite $settings (deepCopy $root.Values.settings) (index . 1) }}
- {name: {{ $variable }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- range $variable, $entry := mergeOverwrite (dict "MESHBUS_SEALING_PUBLIC_KEYS" "sealing-public") (index . 2) }}
- name: {{ $variable }}
  valueFrom: {secretKeyRef: {name: {{ include "meshbus.keys" $root }}, key: {{ $entry }}}}
{{- end }}
{{- end }}

{{- define "meshbus.nats-tls-volume" -}}
{{- with .Values.nats.tlsSecret }}
- name: nats-tls
  secret: {secretName: {{ . }}, items: [{key: ca.crt, path: ca.crt}]}
{{- end }}
{{- end }}

{{- define "meshbus.nats-tls-mount" -}}
{{- if .Values.nats.tlsSecret }}
- {name: nats-tls, mountPath: /nats-tls, readOnly: true}
{{- end }}
{{- end }}
