{{- /*
Names are fixed: everything here holds for a whole cluster, and two of them would repair each other's nodes.
*/ -}}
{{- define "autorepair.controller.name" -}}autorepair-controller{{- end -}}
{{- define "autorepair.aws.name" -}}autorepair-controller-aws{{- end -}}
{{- define "autorepair.agent.name" -}}autorepair-agent{{- end -}}
{{- define "autorepair.agent.namespace" -}}{{ .Values.agent.namespace.name }}{{- end -}}

{{- /* Labels of every object. Takes the root and the name of the part. */ -}}
{{- define "autorepair.labels" -}}
{{- $labels := dict
  "app.kubernetes.io/name" .name
  "app.kubernetes.io/part-of" "autorepair"
  "app.kubernetes.io/instance" .root.Release.Name
  "app.kubernetes.io/version" .root.Chart.AppVersion
  "app.kubernetes.io/managed-by" .root.Release.Service
  "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version) -}}
{{- toYaml (mergeOverwrite (deepCopy .root.Values.commonLabels) $labels) -}}
{{- end -}}

{{- define "autorepair.controller.labels" -}}
{{- include "autorepair.labels" (dict "root" . "name" (include "autorepair.controller.name" .)) -}}
{{- end -}}
{{- define "autorepair.aws.labels" -}}
{{- include "autorepair.labels" (dict "root" . "name" (include "autorepair.aws.name" .)) -}}
{{- end -}}
{{- define "autorepair.agent.labels" -}}
{{- include "autorepair.labels" (dict "root" . "name" (include "autorepair.agent.name" .)) -}}
{{- end -}}

{{- /* Whether others than the agent's own machine reach its metrics: something if so. */ -}}
{{- define "autorepair.agent.metrics.open" -}}
{{- if or .Values.agent.metrics.certSecret (not .Values.agent.metrics.secure) -}}yes{{- end -}}
{{- end -}}

{{- /* The hook that cleans up before an uninstall: there for that time only. Takes its weight. */ -}}
{{- define "autorepair.cleanup.name" -}}autorepair-cleanup{{- end -}}
{{- define "autorepair.cleanup.labels" -}}
{{- include "autorepair.labels" (dict "root" . "name" (include "autorepair.cleanup.name" .)) -}}
{{- end -}}
{{- define "autorepair.cleanup.hook" -}}
helm.sh/hook: pre-delete
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{- /* What Deployment, DaemonSet, Services and the like select pods by; it cannot be changed by an upgrade. */ -}}
{{- define "autorepair.controller.selector" -}}
app.kubernetes.io/name: {{ include "autorepair.controller.name" . }}
{{- end -}}
{{- define "autorepair.aws.selector" -}}
app.kubernetes.io/name: {{ include "autorepair.aws.name" . }}
{{- end -}}
{{- define "autorepair.agent.selector" -}}
app.kubernetes.io/name: {{ include "autorepair.agent.name" . }}
{{- end -}}

{{- /* An image by digest, or by tag. Takes the root and the image. */ -}}
{{- define "autorepair.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}
