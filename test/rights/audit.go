// Package rights compares what our programs ask of the API server, by its audit log, with what RBAC lets them do.
package rights

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Request of the API server, as its audit log has it.
type Request struct {
	User, UserAgent string
	Verb            string
	Group           string
	// Resource with its subresource, as nodes/status; empty where URL was asked for.
	Resource  string
	Namespace string
	Name      string
	// URL of what is no resource.
	URL string
	// Code of the answer; 0 where there was none.
	Code int
	// Unauthorized says that its roles were not found to allow it; an answer of 403 may come of admission instead.
	Unauthorized bool
}

// auditEvent is what we read of an Event of audit.k8s.io/v1.
type auditEvent struct {
	Annotations map[string]string `json:"annotations"`

	Verb       string `json:"verb"`
	RequestURI string `json:"requestURI"`
	UserAgent  string `json:"userAgent"`
	User       struct {
		Username string `json:"username"`
	} `json:"user"`
	ObjectRef *struct {
		APIGroup    string `json:"apiGroup"`
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
	} `json:"objectRef"`
	ResponseStatus struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
}

// maxLine is the longest line that is read, in bytes; those of the level Metadata have one or two thousand.
const maxLine = 1 << 20

// ReadAudit reads the audit log of a cluster in the folder of its logs, those parts of it too that the API server has
// put aside for their size.
func ReadAudit(dir string) ([]Request, error) {
	files, err := filepath.Glob(filepath.Join(dir, "audit*.log"))
	if err != nil {
		return nil, fmt.Errorf("finding the audit log, %w", err)
	}
	var all []Request
	for _, path := range files {
		file, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("opening the audit log, %w", err)
		}
		requests, err := parse(file)
		if err := errors.Join(err, file.Close()); err != nil {
			return nil, fmt.Errorf("reading the audit log, %w", err)
		}
		all = append(all, requests...)
	}
	return all, nil
}

// parse skips lines that are none of an audit log: an API server that is killed leaves half of one.
func parse(from io.Reader) ([]Request, error) {
	var requests []Request
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var event auditEvent
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil || event.Verb == "" {
			continue
		}
		requests = append(requests, event.request())
	}
	return requests, lines.Err() //nolint:wrapcheck // the caller says what for
}

func (e *auditEvent) request() Request {
	r := Request{User: e.User.Username, UserAgent: e.UserAgent, Verb: e.Verb, Code: e.ResponseStatus.Code}
	r.Unauthorized = e.Annotations["authorization.k8s.io/decision"] == "forbid"
	if e.ObjectRef == nil {
		r.URL, _, _ = strings.Cut(e.RequestURI, "?")
		return r
	}
	r.Group, r.Resource, r.Namespace, r.Name = e.ObjectRef.APIGroup, e.ObjectRef.Resource, e.ObjectRef.Namespace, e.ObjectRef.Name
	if e.ObjectRef.Subresource != "" {
		r.Resource += "/" + e.ObjectRef.Subresource
	}
	return r
}
