package main

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
)

// drainBound of the default policy.
const drainBound = "30m"

var wordStart = regexp.MustCompile(`([a-z0-9])([A-Z])`)

// policy writes the default RepairPolicy: a rule for each category with a toleration, so that it holds for the reasons
// of other agents too.
func policy(c catalogue) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s%s\n", strings.ToUpper(header[:1]), header[1:])
	b.WriteString(`#
# The policy for every NodeClaim that no other RepairPolicy selects: its weight of 0 loses against all others. To have it
# otherwise, write a RepairPolicy with a higher weight. Only Fatal findings are acted on; Warnings are only shown.
# The rules go by category, so that they hold for the reasons of other agents too.
apiVersion: autorepair.sh/v1alpha1
kind: RepairPolicy
metadata:
  name: default
spec:
  weight: 0
  mode: Enforce
  rules:
`)
	for i, k := range c.repaired() {
		fmt.Fprintf(&b, "    # %s\n", k.Threshold)
		fmt.Fprintf(&b, "    - name: %s\n", strings.ToLower(wordStart.ReplaceAllString(k.Name, "$1-$2")))
		fmt.Fprintf(&b, "      match:\n        categories: [%s]\n", k.Name)
		fmt.Fprintf(&b, "      tolerate: %s\n      action: Replace\n", k.Tolerate)
		if i == 0 {
			b.WriteString(`      # Pods may hold up the end of a sick node for this long, by a PodDisruptionBudget or karpenter.sh/do-not-disrupt:
      # long enough for a workload that moves one pod at a time, and bounded, because the node would never be repaired
      # for the sake of pods that do not move or no longer run.
`)
		}
		fmt.Fprintf(&b, "      drainBound: %s\n", drainBound)
	}
	return b.Bytes()
}

// repaired gives the categories that the default policy has a rule for.
func (c catalogue) repaired() []category {
	var out []category
	for _, k := range c.categories {
		if k.Tolerate != "" {
			out = append(out, k)
		}
	}
	return out
}
