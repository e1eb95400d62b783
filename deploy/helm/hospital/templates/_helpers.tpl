{{/* Each helper takes a dictionary: root (the chart), name (the service). */}}

{{/* A service's values over the defaults. */}}
{{- define "hospital.service" -}}
{{- mergeOverwrite (deepCopy .root.Values.defaults) (deepCopy (index .root.Values.services .name)) | toYaml -}}
{{- end -}}

{{- define "hospital.fullname" -}}
{{- printf "%s-%s" .root.Release.Name .name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "hospital.selector" -}}
app.kubernetes.io/name: hospital-{{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}

{{/* The pods of a service's migration. */}}
{{- define "hospital.migrationSelector" -}}
app.kubernetes.io/name: hospital-{{ .name }}-migration
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}

{{- define "hospital.labels" -}}
{{ include "hospital.selector" . }}
app.kubernetes.io/component: {{ .name }}
app.kubernetes.io/part-of: hospital
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end -}}

{{- define "hospital.image" -}}
{{- printf "%shospital-%s:%s" .root.Values.image.repository .name (.root.Values.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}

{{- define "hospital.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "hospital.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{/* The arguments that name the settings file, when there is one. */}}
{{- define "hospital.settingsArguments" -}}
{{- if or .root.Values.settings .root.Values.settingsSecret }}
- --config
- /etc/hospital/hospital.toml
{{- end }}
{{- end -}}

{{- define "hospital.environment" -}}
{{- $values := .root.Values -}}
{{- $upper := upper .name -}}
{{- $service := include "hospital.service" . | fromYaml -}}
- name: HOSPITAL_{{ $upper }}__DATABASE_URL
  valueFrom:
    secretKeyRef: { name: {{ $service.databaseUrl.name }}, key: {{ $service.databaseUrl.key }} }
- name: HOSPITAL_{{ $upper }}__LISTEN
  value: 0.0.0.0:{{ $service.port }}
- name: HOSPITAL_{{ $upper }}__PROBE_LISTEN
  value: 0.0.0.0:{{ $service.probePort }}
- name: HOSPITAL_{{ $upper }}__POOL_SIZE
  value: {{ $service.poolSize | quote }}
- name: KAFKA_BOOTSTRAP_SERVERS
  value: {{ $values.kafka.bootstrapServers | quote }}
- name: HOSPITAL_BUS__PARTITIONS
  value: {{ $values.kafka.partitions | quote }}
- name: HOSPITAL_BUS__REPLICATION_FACTOR
  value: {{ $values.kafka.replicationFactor | quote }}
- name: HOSPITAL_AUTH__SIGNING_KEY_FILE
  value: /etc/hospital-key/{{ $values.secrets.signingKey.key }}
- name: HOSPITAL_AUTH__ISSUER
  value: {{ $values.auth.issuer | quote }}
- name: HOSPITAL_AUTH__AUDIENCE
  value: {{ $values.auth.audience | quote }}
- name: HOSPITAL_AUTH__ROLES_CLAIM
  value: {{ $values.auth.rolesClaim | quote }}
{{- with $values.auth.jwksUrl }}
- name: HOSPITAL_AUTH__JWKS_URL
  value: {{ . | quote }}
{{- end }}
- name: HOSPITAL_FACILITY__NAME
  value: {{ $values.facility.name | quote }}
- name: HOSPITAL_FACILITY__ZONE
  value: {{ $values.facility.zone | quote }}
- name: HOSPITAL_FACILITY__COUNTRY
  value: {{ $values.facility.country | quote }}
- name: HOSPITAL_FACILITY__CURRENCY
  value: {{ $values.facility.currency | quote }}
- name: HOSPITAL_FACILITY__MAIL_DOMAIN
  value: {{ $values.facility.mailDomain | quote }}
{{- with $values.facility.address }}
- name: HOSPITAL_FACILITY__ADDRESS
  value: {{ . | quote }}
{{- end }}
{{- with $values.facility.phone }}
- name: HOSPITAL_FACILITY__PHONE
  value: {{ . | quote }}
{{- end }}
- name: HOSPITAL_HTTP__UNREADY_MS
  value: {{ $values.rollout.unreadyMs | quote }}
{{- if has .name (list "appointment" "notification") }}
- name: HOSPITAL_{{ $upper }}__PATIENT_URL
  value: http://{{ include "hospital.fullname" (dict "root" .root "name" "patient") }}:{{ $values.services.patient.port }}
{{- end }}
{{- if eq .name "notification" }}
- name: HOSPITAL_NOTIFICATION__APPOINTMENT_URL
  value: http://{{ include "hospital.fullname" (dict "root" .root "name" "appointment") }}:{{ $values.services.appointment.port }}
{{- end }}
{{- with $service.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "hospital.mounts" -}}
- { name: signing-key, mountPath: /etc/hospital-key, readOnly: true }
- { name: temporary, mountPath: /tmp }
{{- if or .root.Values.settings .root.Values.settingsSecret }}
- { name: settings, mountPath: /etc/hospital, readOnly: true }
{{- end }}
{{- end -}}

{{- define "hospital.volumes" -}}
- name: signing-key
  secret: { secretName: {{ .root.Values.secrets.signingKey.name }}, defaultMode: 0440 }
- name: temporary
  emptyDir: { medium: Memory, sizeLimit: 16Mi }
{{- if .root.Values.settingsSecret }}
- name: settings
  secret: { secretName: {{ .root.Values.settingsSecret }}, defaultMode: 0440 }
{{- else if .root.Values.settings }}
- name: settings
  configMap: { name: {{ .root.Release.Name }}-settings }
{{- end }}
{{- end -}}

{{/* How many connections to PostgreSQL the services may have: each at its most replicas, with the one that a roll-out starts beside them. */}}
{{- define "hospital.connections" -}}
{{- $sum := 0 -}}
{{- range $name, $_ := .root.Values.services -}}
{{- $service := include "hospital.service" (dict "root" $.root "name" $name) | fromYaml -}}
{{- $replicas := $service.replicas -}}
{{- if $service.autoscaling.enabled -}}{{- $replicas = $service.autoscaling.maxReplicas -}}{{- end -}}
{{- /* Beside its pool a replica has two: the relay's, and that of its maintenance. */ -}}
{{- $sum = add $sum (mul (add $replicas 1) (add $service.poolSize 2)) -}}
{{- end -}}
{{- $sum -}}
{{- end -}}

{{/* One rule of where pods may go: ports, and to whom, unless to anybody. */}}
{{- define "hospital.egress" -}}
- ports:
    {{- range .ports }}
    - { protocol: TCP, port: {{ . }} }
    {{- end }}
  {{- with .to }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "hospital.egressToNames" -}}
- to:
    - namespaceSelector: {}
      podSelector:
        matchLabels: { k8s-app: kube-dns }
  ports:
    - { protocol: UDP, port: 53 }
    - { protocol: TCP, port: 53 }
{{- end -}}
