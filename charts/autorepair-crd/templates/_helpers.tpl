{{- /*
A CustomResourceDefinition as controller-gen wrote it, with labels and annotations. It is put in as text, not as an
object: numbers above a million would come back as 1e+06, which the API server does not take.
*/ -}}
{{- define "autorepair-crd.definition" -}}
{{- $annotations := dict -}}
{{- if .root.Values.keep -}}
{{- $_ := set $annotations "helm.sh/resource-policy" "keep" -}}
{{- end -}}
{{- $annotations = mergeOverwrite (deepCopy .root.Values.annotations) $annotations -}}
{{- $labels := dict
  "app.kubernetes.io/name" "autorepair-crd"
  "app.kubernetes.io/part-of" "autorepair"
  "app.kubernetes.io/instance" .root.Release.Name
  "app.kubernetes.io/version" .root.Chart.AppVersion
  "app.kubernetes.io/managed-by" .root.Release.Service
  "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version) -}}
{{- $labels = mergeOverwrite (deepCopy .root.Values.labels) $labels -}}
{{- $metadata := printf "\n  labels:\n%s\n  annotations:\n" (toYaml $labels | indent 4) -}}
{{- if $annotations -}}
{{- $metadata = printf "%s%s\n" $metadata (toYaml $annotations | indent 4) -}}
{{- end -}}
{{- $file := .root.Files.Get .file | required (printf "the chart lacks %s" .file) -}}
{{- $file | trimPrefix "---\n" | replace "\n  annotations:\n" $metadata -}}
{{- end -}}
