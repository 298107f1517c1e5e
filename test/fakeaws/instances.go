package fakeaws

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// States of an instance.
const (
	Running      = "running"
	ShuttingDown = "shutting-down"
	Terminated   = "terminated"
)

// endsWithin is how long an instance is shutting down.
const endsWithin = 2 * time.Second

// Instance that was launched. One that was terminated is still told of, as EC2 does for a while.
type Instance struct {
	ID, Type, Image, Subnet, Zone, ZoneID string
	SecurityGroups                        []string
	Tags                                  map[string]string
	Launched                              time.Time
	// Ended is when its end was asked for; zero while it runs.
	Ended time.Time
	// Reboots that were asked for.
	Reboots int
}

// ProviderID as the kubelet of the instance has it.
func (i Instance) ProviderID() string { return "aws:///" + i.Zone + "/" + i.ID }

// State that EC2 tells.
func (i Instance) State() string {
	switch {
	case i.Ended.IsZero():
		return Running
	case time.Since(i.Ended) < endsWithin:
		return ShuttingDown
	default:
		return Terminated
	}
}

// Change is a call that launched, rebooted or ended instances.
type Change struct {
	Action    string // as IAM names it
	Instances []string
	At        time.Time
}

// Instances that were ever launched, oldest first.
func (a *AWS) Instances() []Instance {
	var out []Instance
	a.set(func() {
		for _, one := range a.launched {
			one.Tags = maps.Clone(one.Tags)
			out = append(out, one)
		}
	})
	return out
}

// Changes that were made, oldest first.
func (a *AWS) Changes() []Change {
	var out []Change
	a.set(func() { out = slices.Clone(a.changes) })
	return out
}

func (a *AWS) changed(action string, instances ...string) {
	a.changes = append(a.changes, Change{Action: "ec2:" + action, Instances: instances, At: time.Now()})
}

type tag struct {
	Key   string `xml:"key"`
	Value string `xml:"value"`
}

// tagged reads TagSpecification.N of a resource type.
func tagged(form url.Values, resource string) map[string]string {
	for n := 1; form.Has(fmt.Sprintf("TagSpecification.%d.ResourceType", n)); n++ {
		if prefix := fmt.Sprintf("TagSpecification.%d.", n); form.Get(prefix+"ResourceType") == resource {
			return tags(form, prefix+"Tag")
		}
	}
	return map[string]string{}
}

func tags(form url.Values, name string) map[string]string {
	out := map[string]string{}
	for n := 1; form.Has(fmt.Sprintf("%s.%d.Key", name, n)); n++ {
		out[form.Get(fmt.Sprintf("%s.%d.Key", name, n))] = form.Get(fmt.Sprintf("%s.%d.Value", name, n))
	}
	return out
}

// hasTags gives the values of the filters that ask for tags.
func hasTags(of map[string]string, name string) []string {
	if name == "tag-key" {
		return slices.Collect(maps.Keys(of))
	}
	if value, ok := of[strings.TrimPrefix(name, "tag:")]; ok && strings.HasPrefix(name, "tag:") {
		return []string{value}
	}
	return nil
}

type launchTemplate struct {
	ID   string `xml:"launchTemplateId"`
	Name string `xml:"launchTemplateName"`

	tags           map[string]string
	securityGroups []string
}

func (a *AWS) describeLaunchTemplates(form url.Values) (any, *refusal) {
	out := struct {
		Templates []launchTemplate `xml:"launchTemplates>item"`
	}{}
	names := listed(form, "LaunchTemplateName")
	for _, t := range a.templates {
		if (len(names) == 0 || slices.Contains(names, t.Name)) && pass(form, func(name string) []string { return hasTags(t.tags, name) }) {
			out.Templates = append(out.Templates, t)
		}
	}
	if len(names) > len(out.Templates) {
		return nil, noTemplate(strings.Join(names, ", "))
	}
	return out, nil
}

func noTemplate(name string) *refusal {
	return &refusal{"InvalidLaunchTemplateName.NotFoundException", "there is no launch template " + name}
}

func (a *AWS) createLaunchTemplate(form url.Values) (any, *refusal) {
	out := struct {
		Template launchTemplate `xml:"launchTemplate"`
	}{launchTemplate{
		ID: fmt.Sprintf("lt-%017x", len(a.templates)+1), Name: form.Get("LaunchTemplateName"), tags: tagged(form, "launch-template"),
		securityGroups: listed(form, "LaunchTemplateData.NetworkInterface.1.SecurityGroupId"),
	}}
	a.templates = append(a.templates, out.Template)
	return out, nil
}

func (a *AWS) deleteLaunchTemplate(form url.Values) (any, *refusal) {
	a.templates = slices.DeleteFunc(a.templates, func(t launchTemplate) bool {
		return t.ID == form.Get("LaunchTemplateId") || t.Name == form.Get("LaunchTemplateName")
	})
	return struct{}{}, nil
}

// override is one way to launch that a fleet is given.
type override struct {
	Type   string `xml:"instanceType"`
	Subnet string `xml:"subnetId"`
	Zone   string `xml:"availabilityZone"`
	Image  string `xml:"imageId"`

	template launchTemplate
}

// overrides reads LaunchTemplateConfigs.N.Overrides.M.
func (a *AWS) overrides(form url.Values) ([]override, *refusal) {
	var out []override
	for n := 1; ; n++ {
		config := fmt.Sprintf("LaunchTemplateConfigs.%d.", n)
		name := form.Get(config + "LaunchTemplateSpecification.LaunchTemplateName")
		if name == "" {
			return out, nil
		}
		at := slices.IndexFunc(a.templates, func(t launchTemplate) bool { return t.Name == name })
		if at < 0 {
			return nil, noTemplate(name)
		}
		for m := 1; form.Has(fmt.Sprintf("%sOverrides.%d.InstanceType", config, m)); m++ {
			prefix := fmt.Sprintf("%sOverrides.%d.", config, m)
			out = append(out, override{
				Type: form.Get(prefix + "InstanceType"), Subnet: form.Get(prefix + "SubnetId"), Zone: form.Get(prefix + "AvailabilityZone"),
				Image: form.Get(prefix + "ImageId"), template: a.templates[at],
			})
		}
	}
}

type fleet struct {
	ID        string          `xml:"fleetId"`
	Instances []fleetInstance `xml:"fleetInstanceSet>item"`
}

type fleetInstance struct {
	Overrides override `xml:"launchTemplateAndOverrides>overrides"`
	Lifecycle string   `xml:"lifecycle"`
	IDs       []string `xml:"instanceIds>item"`
	Type      string   `xml:"instanceType"`
}

// createFleet launches as many as are wanted, all in the cheapest way.
func (a *AWS) createFleet(form url.Values) (any, *refusal) {
	ways, refused := a.overrides(form)
	if refused != nil {
		return nil, refused
	}
	count, err := strconv.Atoi(form.Get("TargetCapacitySpecification.TotalTargetCapacity"))
	if err != nil || count < 1 || len(ways) == 0 {
		return nil, &refusal{"InvalidParameterValue", "a fleet needs a number of instances and a way to launch them"}
	}
	way := slices.MinFunc(ways, func(x, y override) int { return cmp.Compare(priceOf(x.Type), priceOf(y.Type)) })
	in := slices.IndexFunc(subnets, func(s subnet) bool { return s.ID == way.Subnet })
	if in < 0 || priceOf(way.Type) == 0 {
		return nil, &refusal{"InvalidParameterValue", fmt.Sprintf("there is no subnet %q or no instance type %q", way.Subnet, way.Type)}
	}
	made := fleetInstance{Overrides: way, Lifecycle: form.Get("TargetCapacitySpecification.DefaultTargetCapacityType"), Type: way.Type}
	for range count {
		one := Instance{
			ID: fmt.Sprintf("i-%017x", len(a.launched)+1), Type: way.Type, Image: way.Image, Subnet: way.Subnet,
			Zone: subnets[in].Zone, ZoneID: subnets[in].ZoneID, SecurityGroups: way.template.securityGroups,
			Tags: tagged(form, "instance"), Launched: time.Now(),
		}
		a.launched = append(a.launched, one)
		made.IDs = append(made.IDs, one.ID)
	}
	a.changed("CreateFleet", made.IDs...)
	return fleet{ID: fmt.Sprintf("fleet-%d", len(a.changes)), Instances: []fleetInstance{made}}, nil
}

// runInstances is only tried, by Karpenter, to find out whether it may.
func (a *AWS) runInstances(url.Values) (any, *refusal) {
	return nil, &refusal{"InvalidAction", "the endpoint runs no instances but by CreateFleet"}
}

type state struct {
	Code int    `xml:"code"`
	Name string `xml:"name"`
}

func stateOf(name string) state {
	return state{Code: map[string]int{Running: 16, ShuttingDown: 32, Terminated: 48}[name], Name: name}
}

type group struct {
	ID string `xml:"groupId"`
}

type described struct {
	ID       string  `xml:"instanceId"`
	Image    string  `xml:"imageId"`
	State    state   `xml:"instanceState"`
	Type     string  `xml:"instanceType"`
	Launched string  `xml:"launchTime"`
	Zone     string  `xml:"placement>availabilityZone"`
	ZoneID   string  `xml:"placement>availabilityZoneId"`
	Tenancy  string  `xml:"placement>tenancy"`
	Subnet   string  `xml:"subnetId"`
	Groups   []group `xml:"groupSet>item"`
	Tags     []tag   `xml:"tagSet>item"`
}

type reservation struct {
	Instances []described `xml:"instancesSet>item"`
}

func (a *AWS) describeInstances(form url.Values) (any, *refusal) {
	ids, refused := a.known(form)
	if refused != nil {
		return nil, refused
	}
	out := struct {
		Reservations []reservation `xml:"reservationSet>item"`
	}{}
	for _, one := range a.launched {
		if (len(ids) > 0 && !slices.Contains(ids, one.ID)) || !pass(form, func(name string) []string {
			if name == "instance-state-name" {
				return []string{one.State()}
			}
			return hasTags(one.Tags, name)
		}) {
			continue
		}
		out.Reservations = append(out.Reservations, reservation{Instances: []described{describe(one)}})
	}
	return out, nil
}

func describe(one Instance) described {
	out := described{
		ID: one.ID, Image: one.Image, State: stateOf(one.State()), Type: one.Type, Launched: stamp(one.Launched),
		Zone: one.Zone, ZoneID: one.ZoneID, Tenancy: "default", Subnet: one.Subnet,
	}
	for _, id := range one.SecurityGroups {
		out.Groups = append(out.Groups, group{ID: id})
	}
	for key, value := range one.Tags {
		out.Tags = append(out.Tags, tag{Key: key, Value: value})
	}
	return out
}

// known reads InstanceId.N, which EC2 refuses as a whole where there is no such instance.
func (a *AWS) known(form url.Values) ([]string, *refusal) {
	ids := listed(form, "InstanceId")
	for _, id := range ids {
		if a.find(id) == nil {
			return nil, &refusal{"InvalidInstanceID.NotFound", "there is no instance " + id}
		}
	}
	return ids, nil
}

func (a *AWS) find(id string) *Instance {
	for i := range a.launched {
		if a.launched[i].ID == id {
			return &a.launched[i]
		}
	}
	return nil
}

type stateChange struct {
	ID   string `xml:"instanceId"`
	From state  `xml:"previousState"`
	To   state  `xml:"currentState"`
}

func (a *AWS) terminateInstances(form url.Values) (any, *refusal) {
	ids, refused := a.known(form)
	if refused != nil {
		return nil, refused
	}
	out := struct {
		Changes []stateChange `xml:"instancesSet>item"`
	}{}
	for _, id := range ids {
		one := a.find(id)
		change := stateChange{ID: id, From: stateOf(one.State())}
		if one.Ended.IsZero() {
			one.Ended = time.Now()
		}
		change.To = stateOf(one.State())
		out.Changes = append(out.Changes, change)
	}
	a.changed("TerminateInstances", ids...)
	return out, nil
}

func (a *AWS) rebootInstances(form url.Values) (any, *refusal) {
	ids, refused := a.known(form)
	if refused != nil {
		return nil, refused
	}
	for _, id := range ids {
		a.find(id).Reboots++
	}
	a.changed("RebootInstances", ids...)
	return struct{}{}, nil
}

func (a *AWS) createTags(form url.Values) (any, *refusal) {
	for _, id := range listed(form, "ResourceId") {
		one := a.find(id)
		if one == nil {
			return nil, &refusal{"InvalidInstanceID.NotFound", "there is no instance " + id}
		}
		maps.Copy(one.Tags, tags(form, "Tag"))
	}
	return struct{}{}, nil
}
