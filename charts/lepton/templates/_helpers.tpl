{{/* The name of all objects. Deployments of models have a model's name: this one ends with -operator. */}}
{{- define "lepton.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains "operator" .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-operator" (.Release.Name | trunc 43 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{/* Labels that select the operator's pods: a Deployment can never change them. */}}
{{- define "lepton.selectorLabels" -}}
app.kubernetes.io/name: lepton-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "lepton.ownLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "lepton.selectorLabels" . }}
app.kubernetes.io/part-of: lepton
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* Labels of an object: ours go before those of the values. */}}
{{- define "lepton.labels" -}}
{{- toYaml (merge (include "lepton.ownLabels" . | fromYaml) .Values.commonLabels) -}}
{{- end -}}

{{/* The same with more, as those that something selects the object by. Takes (list . moreLabels). */}}
{{- define "lepton.labelsWith" -}}
{{- toYaml (merge (include "lepton.ownLabels" (first .) | fromYaml) (last .) (first .).Values.commonLabels) -}}
{{- end -}}

{{/* Labels of the operator's pods: without the chart's version, so that they are replaced only where they change. */}}
{{- define "lepton.podLabels" -}}
{{- $own := merge (include "lepton.selectorLabels" . | fromYaml) (dict "app.kubernetes.io/part-of" "lepton") -}}
{{- toYaml (merge $own .Values.podLabels .Values.commonLabels) -}}
{{- end -}}

{{- define "lepton.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "lepton.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* An image's name: a digest goes before a tag. Takes (list . image). */}}
{{- define "lepton.image" -}}
{{- $image := last . -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default (first .).Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Security contexts under Pod Security "restricted". */}}
{{- define "lepton.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "lepton.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Fails where the cluster lacks a kind of the Prometheus operator. Takes (list . kind value). */}}
{{- define "lepton.requireKind" -}}
{{- $api := printf "monitoring.coreos.com/v1/%s" (index . 1) -}}
{{- if not ((first .).Capabilities.APIVersions.Has $api) -}}
{{- fail (printf "%s is true, but this cluster knows no %s (monitoring.coreos.com/v1): install the Prometheus operator's CRDs first, or set %s=false. (`helm template` asks no cluster: give it --api-versions %s.)" (last .) (index . 1) (last .) $api) -}}
{{- end -}}
{{- end -}}

{{/* Where `helm test` makes its model: a namespace that the operator looks after. */}}
{{- define "lepton.testNamespace" -}}
{{- if or (not .Values.watchNamespaces) (has .Release.Namespace .Values.watchNamespaces) -}}
{{- .Release.Namespace -}}
{{- else -}}
{{- first .Values.watchNamespaces -}}
{{- end -}}
{{- end -}}

{{/* Fails where another release's operator has rights over what this one's would look after. Takes (list . found). */}}
{{- define "lepton.refuseOthers" -}}
{{- $top := first . -}}
{{- $mine := printf "%s/%s" $top.Release.Namespace $top.Release.Name -}}
{{- range (default dict (last .)).items -}}
{{- if hasKey (default dict .metadata.labels) "lepton.dev/operator-of" -}}
{{- $notes := default dict .metadata.annotations -}}
{{- $owner := printf "%s/%s" (get $notes "meta.helm.sh/release-namespace") (get $notes "meta.helm.sh/release-name") -}}
{{- if ne $owner $mine -}}
{{- $where := ternary (printf "the namespace %s" (default "" .metadata.namespace)) "all namespaces" (hasKey .metadata "namespace") -}}
{{- fail (printf "the operator of the release %s looks after %s already, and two would fight over its models: uninstall that, or give each of them watchNamespaces of its own" $owner $where) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
