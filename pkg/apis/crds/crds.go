// Package crds carries the CustomResourceDefinitions, generated from pkg/apis/v1alpha1.
package crds

import "embed"

// FS holds one YAML file for each CustomResourceDefinition.
//
//go:embed *.yaml
var FS embed.FS
