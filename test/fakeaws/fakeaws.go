// Package fakeaws speaks, on loopback, the calls of EC2 and ARC that we make: the SDK's real wiring goes through it.
package fakeaws

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Check is a failed status check or a scheduled event of an instance.
type Check struct {
	Instance string
	// Kind is instance, system, ebs or event.
	Kind string
	// Name of the check, or code of the event.
	Name string
	// Since when it fails; of an event: when it is due.
	Since time.Time
	// Description of an event.
	Description string
}

// Shift of a zone; without an end it is an autoshift.
type Shift struct {
	ZoneID, Comment string
	Until           time.Time
}

// AWS is the endpoint. Its methods may be called while it serves.
type AWS struct {
	server *httptest.Server

	mu     sync.Mutex
	checks []Check
	shifts []Shift
	fails  map[string]string // action -> error code
	calls  map[string]int    // action -> how often it was called
	page   int
}

// New starts an endpoint; Close ends it.
func New() *AWS {
	a := &AWS{fails: map[string]string{}, calls: map[string]int{}, page: 1000}
	a.server = httptest.NewServer(a)
	return a
}

// URL for AWS_ENDPOINT_URL.
func (a *AWS) URL() string { return a.server.URL }

// Close ends the endpoint.
func (a *AWS) Close() { a.server.Close() }

// Env is what makes the SDK of a process talk to the endpoint and to nothing else.
func (a *AWS) Env() []string {
	return []string{
		"AWS_ENDPOINT_URL=" + a.URL(), "AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=none", "AWS_SECRET_ACCESS_KEY=none",
		"AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null",
	}
}

// Impair sets what fails, in the place of what failed before.
func (a *AWS) Impair(checks ...Check) { a.set(func() { a.checks = checks }) }

// Shift sets the zonal shifts, in the place of those before.
func (a *AWS) Shift(shifts ...Shift) { a.set(func() { a.shifts = shifts }) }

// Fail answers an action (as IAM names it, for example ec2:DescribeInstanceStatus) with an error code; an empty code
// ends that.
func (a *AWS) Fail(action, code string) { a.set(func() { a.fails[action] = code }) }

// Calls gives how often each action was called, as IAM names them.
func (a *AWS) Calls() map[string]int {
	out := map[string]int{}
	a.set(func() {
		for action, n := range a.calls {
			out[action] = n
		}
	})
	return out
}

func (a *AWS) set(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
}

// ServeHTTP answers one call. An action that it does not know is an error, so that none goes unseen.
func (a *AWS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/managedresources/") {
		a.answer(w, "arc-zonal-shift:GetManagedResource", func() { a.managedResource(w, strings.TrimPrefix(r.URL.Path, "/managedresources/")) })
		return
	}
	if err := r.ParseForm(); err != nil || r.Form.Get("Action") == "" {
		http.Error(w, "unknown call "+r.Method+" "+r.URL.Path, http.StatusNotImplemented)
		return
	}
	action := r.Form.Get("Action")
	a.answer(w, "ec2:"+action, func() {
		if action != "DescribeInstanceStatus" {
			refuse(w, "InvalidAction", "the endpoint does not know "+action)
			return
		}
		a.instanceStatus(w, r.Form)
	})
}

func (a *AWS) answer(w http.ResponseWriter, action string, otherwise func()) {
	a.calls[action]++
	switch code := a.fails[action]; {
	case code == "":
		otherwise()
	case strings.HasPrefix(action, "ec2:"):
		refuse(w, code, "you are told no")
	default:
		w.Header().Set("X-Amzn-ErrorType", code)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"message":"you are told no"}`)
	}
}

// refuse answers as EC2 does; throttling is a 503 there, all else that we ask for a 403.
func refuse(w http.ResponseWriter, code, message string) {
	status := http.StatusForbidden
	if code == "RequestLimitExceeded" {
		status = http.StatusServiceUnavailable
	}
	w.WriteHeader(status)
	fmt.Fprintf(w, `<Response><Errors><Error><Code>%s</Code><Message>%s</Message></Error></Errors><RequestID>0</RequestID></Response>`, code, message)
}

type detail struct {
	Name          string `xml:"name"`
	Status        string `xml:"status"`
	ImpairedSince string `xml:"impairedSince,omitempty"`
}

type summary struct {
	Status  string   `xml:"status"`
	Details []detail `xml:"details>item"`
}

type event struct {
	Code        string `xml:"code"`
	Description string `xml:"description"`
	NotBefore   string `xml:"notBefore,omitempty"`
}

type instance struct {
	InstanceID     string  `xml:"instanceId"`
	InstanceStatus summary `xml:"instanceStatus"`
	SystemStatus   summary `xml:"systemStatus"`
	EBSStatus      summary `xml:"attachedEbsStatus"`
	Events         []event `xml:"eventsSet>item"`
}

type instanceStatuses struct {
	XMLName   xml.Name   `xml:"DescribeInstanceStatusResponse"`
	Instances []instance `xml:"instanceStatusSet>item"`
	NextToken string     `xml:"nextToken,omitempty"`
}

// instanceStatus lists the instances that match the filters, a page at a time.
func (a *AWS) instanceStatus(w http.ResponseWriter, form url.Values) {
	var matching []instance
	for _, id := range a.ids() {
		if one := a.instance(id); matches(one, form) {
			matching = append(matching, one)
		}
	}
	from, _ := strconv.Atoi(form.Get("NextToken"))
	to := min(from+a.page, len(matching))
	out := instanceStatuses{Instances: matching[min(from, len(matching)):to]}
	if to < len(matching) {
		out.NextToken = strconv.Itoa(to)
	}
	_ = xml.NewEncoder(w).Encode(out)
}

func (a *AWS) ids() []string {
	var ids []string
	for _, check := range a.checks {
		ids = append(ids, check.Instance)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func (a *AWS) instance(id string) instance {
	ok := func() summary {
		return summary{Status: "ok", Details: []detail{{Name: "reachability", Status: "passed"}}}
	}
	out := instance{InstanceID: id, InstanceStatus: ok(), SystemStatus: ok(), EBSStatus: ok()}
	for _, check := range a.checks {
		if check.Instance != id {
			continue
		}
		failed := summary{Status: "impaired", Details: []detail{{Name: check.Name, Status: "failed", ImpairedSince: stamp(check.Since)}}}
		switch check.Kind {
		case "instance":
			out.InstanceStatus = failed
		case "system":
			out.SystemStatus = failed
		case "ebs":
			out.EBSStatus = failed
		case "event":
			out.Events = append(out.Events, event{Code: check.Name, Description: check.Description, NotBefore: stamp(check.Since)})
		}
	}
	return out
}

func stamp(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format(time.RFC3339)
}

// matches reads Filter.N.Name and Filter.N.Value.M; all filters have to match.
func matches(one instance, form url.Values) bool {
	for n := 1; ; n++ {
		prefix := fmt.Sprintf("Filter.%d.", n)
		name := form.Get(prefix + "Name")
		if name == "" {
			return true
		}
		var values []string
		for m := 1; form.Get(fmt.Sprintf("%sValue.%d", prefix, m)) != ""; m++ {
			values = append(values, form.Get(fmt.Sprintf("%sValue.%d", prefix, m)))
		}
		has := map[string][]string{
			"instance-status.status":     {one.InstanceStatus.Status},
			"system-status.status":       {one.SystemStatus.Status},
			"attached-ebs-status.status": {one.EBSStatus.Status},
		}[name]
		if name == "event.code" {
			for _, e := range one.Events {
				has = append(has, e.Code)
			}
		}
		if !slices.ContainsFunc(has, func(value string) bool { return slices.Contains(values, value) }) {
			return false
		}
	}
}

func (a *AWS) managedResource(w http.ResponseWriter, arn string) {
	zonal, auto := []map[string]any{}, []map[string]any{}
	for _, shift := range a.shifts {
		one := map[string]any{"awayFrom": shift.ZoneID, "appliedStatus": "APPLIED", "startTime": time.Now().Unix()}
		if shift.Until.IsZero() {
			auto = append(auto, one)
			continue
		}
		one["comment"], one["expiryTime"], one["resourceIdentifier"], one["zonalShiftId"] = shift.Comment, shift.Until.Unix(), arn, "1"
		zonal = append(zonal, one)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"arn": arn, "appliedWeights": map[string]float32{}, "zonalShifts": zonal, "autoshifts": auto})
}
