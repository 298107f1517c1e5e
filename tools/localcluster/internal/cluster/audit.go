package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
)

// namespaceName is a DNS label, as Kubernetes wants it.
var namespaceName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

func (c *Cluster) auditPolicy() string { return filepath.Join(c.Directory, "audit-policy.json") }

// auditLog is where the API server notes each request of the audited service accounts, one JSON object a line.
func (c *Cluster) auditLog() string { return filepath.Join(c.logDirectory(), "audit.log") }

// addAudited takes further namespaces into the audit, and says whether that is a change.
func (c *Cluster) addAudited(namespaces []string) (bool, error) {
	changed := false
	for _, namespace := range namespaces {
		if !namespaceName.MatchString(namespace) {
			return false, fmt.Errorf("--audit has %q, write the namespaces of service accounts as kube-system,default", namespace)
		}
		if !slices.Contains(c.state.Audit, namespace) {
			c.state.Audit = append(c.state.Audit, namespace)
			changed = true
		}
	}
	return changed, nil
}

// writeAuditPolicy has the API server note who asked for what and what the answer was, never what was sent. Only
// service accounts of the audited namespaces are noted: all the others are a hundred times as many.
func (c *Cluster) writeAuditPolicy() error {
	if len(c.state.Audit) == 0 {
		return nil
	}
	var groups []string
	for _, namespace := range c.state.Audit {
		groups = append(groups, "system:serviceaccounts:"+namespace)
	}
	text, err := json.Marshal(map[string]any{
		"apiVersion": "audit.k8s.io/v1", "kind": "Policy",
		"omitStages": []string{"RequestReceived"},
		"rules":      []map[string]any{{"level": "Metadata", "userGroups": groups}, {"level": "None"}},
	})
	if err != nil {
		return fmt.Errorf("encoding the audit policy, %w", err)
	}
	if err := os.WriteFile(c.auditPolicy(), text, 0o600); err != nil {
		return fmt.Errorf("writing the audit policy, %w", err)
	}
	return nil
}

func auditArguments(c *Cluster) []string {
	if len(c.state.Audit) == 0 {
		return nil
	}
	return []string{"--audit-policy-file=" + c.auditPolicy(), "--audit-log-path=" + c.auditLog()}
}
