// Package fakeaws speaks, on loopback, the calls of EC2 and ARC that we make, and those by which Karpenter launches and
// ends instances: the SDK's real wiring goes through it.
package fakeaws

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"maps"
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

	unknown   map[string]int // calls that were refused because they are not known
	templates []launchTemplate
	launched  []Instance
	changes   []Change
}

// New starts an endpoint; Close ends it.
func New() *AWS {
	a := &AWS{fails: map[string]string{}, calls: map[string]int{}, unknown: map[string]int{}, page: 1000}
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
	var out map[string]int
	a.set(func() { out = maps.Clone(a.calls) })
	return out
}

// Unknown gives the calls that the endpoint does not know, and how often they were made.
func (a *AWS) Unknown() map[string]int {
	var out map[string]int
	a.set(func() { out = maps.Clone(a.unknown) })
	return out
}

func (a *AWS) set(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
}

// ServeHTTP answers one call. What it does not know is an error, and is kept: see Unknown.
func (a *AWS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	service := serviceOf(r)
	switch {
	case r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/managedresources/"):
		a.answer(w, service+":GetManagedResource", func() { a.managedResource(w, strings.TrimPrefix(r.URL.Path, "/managedresources/")) })
		return
	case r.Header.Get("X-Amz-Target") == "AWSPriceListService.GetProducts":
		a.answer(w, service+":GetProducts", func() { products(w, r.Body) })
		return
	}
	if err := r.ParseForm(); err != nil || r.Form.Get("Action") == "" {
		a.refuseUnknown(w, service+" "+r.Method+" "+r.URL.Path+" "+r.Header.Get("X-Amz-Target"))
		return
	}
	action := service + ":" + r.Form.Get("Action")
	respond, known := actions[action]
	if !known {
		a.refuseUnknown(w, action)
		return
	}
	a.answer(w, action, func() {
		if r.Form.Get("DryRun") == "true" {
			refuse(w, "DryRunOperation", "the request would have succeeded")
			return
		}
		response, refused := respond(a, r.Form)
		if refused != nil {
			refuse(w, refused.code, refused.message)
			return
		}
		_ = xml.NewEncoder(w).EncodeElement(response, xml.StartElement{Name: xml.Name{Local: r.Form.Get("Action") + "Response"}})
	})
}

// actions by which the query protocol is spoken, as IAM names them.
var actions = map[string]func(*AWS, url.Values) (any, *refusal){
	"ec2:DescribeInstanceStatus":        (*AWS).instanceStatus,
	"ec2:DescribeInstanceTypes":         (*AWS).instanceTypes,
	"ec2:DescribeInstanceTypeOfferings": (*AWS).offerings,
	"ec2:DescribeSpotPriceHistory":      (*AWS).spotPrices,
	"ec2:DescribeSubnets":               (*AWS).subnets,
	"ec2:DescribeSecurityGroups":        (*AWS).securityGroups,
	"ec2:DescribeImages":                (*AWS).images,
	"ec2:DescribeLaunchTemplates":       (*AWS).describeLaunchTemplates,
	"ec2:CreateLaunchTemplate":          (*AWS).createLaunchTemplate,
	"ec2:DeleteLaunchTemplate":          (*AWS).deleteLaunchTemplate,
	"ec2:CreateFleet":                   (*AWS).createFleet,
	"ec2:RunInstances":                  (*AWS).runInstances,
	"ec2:DescribeInstances":             (*AWS).describeInstances,
	"ec2:TerminateInstances":            (*AWS).terminateInstances,
	"ec2:RebootInstances":               (*AWS).rebootInstances,
	"ec2:CreateTags":                    (*AWS).createTags,
	"iam:ListInstanceProfiles":          (*AWS).instanceProfiles,
}

// serviceOf reads from the signature which service a call is meant for:
// Credential=none/20260102/us-east-1/ec2/aws4_request
func serviceOf(r *http.Request) string {
	scope := strings.Split(r.Header.Get("Authorization"), "/")
	if len(scope) < 5 {
		return "unsigned"
	}
	return scope[3]
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

func (a *AWS) refuseUnknown(w http.ResponseWriter, call string) {
	a.unknown[call]++
	refuse(w, "InvalidAction", "the endpoint does not know "+call)
}

// refusal is an error that AWS answers with.
type refusal struct{ code, message string }

// refuse answers as EC2 does; throttling is a 503 there, what was only tried a 412, all else that we ask for a 403.
func refuse(w http.ResponseWriter, code, message string) {
	status := http.StatusForbidden
	switch code {
	case "RequestLimitExceeded":
		status = http.StatusServiceUnavailable
	case "DryRunOperation":
		status = http.StatusPreconditionFailed
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
	Instances []instance `xml:"instanceStatusSet>item"`
	NextToken string     `xml:"nextToken,omitempty"`
}

// instanceStatus lists the instances that match the filters, a page at a time.
func (a *AWS) instanceStatus(form url.Values) (any, *refusal) {
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
	return out, nil
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

func matches(one instance, form url.Values) bool {
	return pass(form, func(name string) []string {
		if name == "event.code" {
			var codes []string
			for _, e := range one.Events {
				codes = append(codes, e.Code)
			}
			return codes
		}
		return map[string][]string{
			"instance-status.status":     {one.InstanceStatus.Status},
			"system-status.status":       {one.SystemStatus.Status},
			"attached-ebs-status.status": {one.EBSStatus.Status},
		}[name]
	})
}

// pass reads Filter.N.Name and Filter.N.Value.M; all filters have to match. has gives the values that one thing has
// under the name of a filter.
func pass(form url.Values, has func(name string) []string) bool {
	for n := 1; ; n++ {
		prefix := fmt.Sprintf("Filter.%d.", n)
		name := form.Get(prefix + "Name")
		if name == "" {
			return true
		}
		wanted := listed(form, prefix+"Value")
		if !slices.ContainsFunc(has(name), func(value string) bool { return slices.Contains(wanted, value) }) {
			return false
		}
	}
}

// listed reads a list as the query protocol writes it: name.1, name.2 and so on.
func listed(form url.Values, name string) []string {
	var values []string
	for n := 1; form.Has(fmt.Sprintf("%s.%d", name, n)); n++ {
		values = append(values, form.Get(fmt.Sprintf("%s.%d", name, n)))
	}
	return values
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
