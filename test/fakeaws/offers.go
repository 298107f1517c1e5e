package fakeaws

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// What EC2 has to offer here, for an EC2NodeClass to name.
const (
	SubnetA       = "subnet-0000000000000000a"
	SubnetB       = "subnet-0000000000000000b"
	SecurityGroup = "sg-00000000000000001"
	Image         = "ami-00000000000000001"
)

type subnet struct {
	ID        string `xml:"subnetId"`
	Zone      string `xml:"availabilityZone"`
	ZoneID    string `xml:"availabilityZoneId"`
	Addresses int    `xml:"availableIpAddressCount"`
	VPC       string `xml:"vpcId"`
}

var subnets = []subnet{
	{ID: SubnetA, Zone: "us-east-1a", ZoneID: "use1-az1", Addresses: 250, VPC: "vpc-00000000000000001"},
	{ID: SubnetB, Zone: "us-east-1b", ZoneID: "use1-az2", Addresses: 250, VPC: "vpc-00000000000000001"},
}

// offer is an instance type and what an hour of it costs, as in us-east-1.
type offer struct {
	name           string
	vCPUs, memory  int // MiB
	cards, perCard int // network interfaces, and addresses of each
	price          float64
}

var offers = []offer{
	{name: "c5.large", vCPUs: 2, memory: 4096, cards: 3, perCard: 10, price: 0.085},
	{name: "m5.large", vCPUs: 2, memory: 8192, cards: 3, perCard: 10, price: 0.096},
	{name: "m5.xlarge", vCPUs: 4, memory: 16384, cards: 4, perCard: 15, price: 0.192},
}

// metal is not offered; but Karpenter takes no prices at all where it is told none of bare metal.
var metal = offer{name: "m5.metal", price: 4.608}

func priceOf(instanceType string) float64 {
	for _, o := range offers {
		if o.name == instanceType {
			return o.price
		}
	}
	return 0
}

type networkCard struct {
	Index      int `xml:"networkCardIndex"`
	Interfaces int `xml:"maximumNetworkInterfaces"`
}

type instanceType struct {
	Name           string   `xml:"instanceType"`
	UsageClasses   []string `xml:"supportedUsageClasses>item"`
	Virtualization []string `xml:"supportedVirtualizationTypes>item"`
	BareMetal      bool     `xml:"bareMetal"`
	Hypervisor     string   `xml:"hypervisor"`
	Architectures  []string `xml:"processorInfo>supportedArchitectures>item"`
	Manufacturer   string   `xml:"processorInfo>manufacturer"`
	VCPUs          int      `xml:"vCpuInfo>defaultVCpus"`
	Cores          int      `xml:"vCpuInfo>defaultCores"`
	Memory         int      `xml:"memoryInfo>sizeInMiB"`
	Network        struct {
		Interfaces  int           `xml:"maximumNetworkInterfaces"`
		Addresses   int           `xml:"ipv4AddressesPerInterface"`
		Encryption  bool          `xml:"encryptionInTransitSupported"`
		DefaultCard int           `xml:"defaultNetworkCardIndex"`
		Cards       []networkCard `xml:"networkCards>item"`
	} `xml:"networkInfo"`
}

func (a *AWS) instanceTypes(url.Values) (any, *refusal) {
	out := struct {
		Types []instanceType `xml:"instanceTypeSet>item"`
	}{}
	for _, o := range offers {
		one := instanceType{
			Name: o.name, UsageClasses: []string{"on-demand", "spot"}, Virtualization: []string{"hvm"}, Hypervisor: "nitro",
			Architectures: []string{"x86_64"}, Manufacturer: "Intel", VCPUs: o.vCPUs, Cores: o.vCPUs / 2, Memory: o.memory,
		}
		one.Network.Interfaces, one.Network.Addresses = o.cards, o.perCard
		one.Network.Cards = []networkCard{{Interfaces: o.cards}}
		out.Types = append(out.Types, one)
	}
	return out, nil
}

type offering struct {
	Type         string `xml:"instanceType"`
	Location     string `xml:"location"`
	LocationType string `xml:"locationType"`
}

func (a *AWS) offerings(url.Values) (any, *refusal) {
	out := struct {
		Offerings []offering `xml:"instanceTypeOfferingSet>item"`
	}{}
	for _, o := range offers {
		for _, s := range subnets {
			out.Offerings = append(out.Offerings, offering{Type: o.name, Location: s.Zone, LocationType: "availability-zone"})
		}
	}
	return out, nil
}

type spotPrice struct {
	Type  string `xml:"instanceType"`
	Zone  string `xml:"availabilityZone"`
	Price string `xml:"spotPrice"`
	At    string `xml:"timestamp"`
}

// spotPrices are a third of the others.
func (a *AWS) spotPrices(url.Values) (any, *refusal) {
	out := struct {
		Prices []spotPrice `xml:"spotPriceHistorySet>item"`
	}{}
	for _, o := range offers {
		for _, s := range subnets {
			out.Prices = append(out.Prices, spotPrice{Type: o.name, Zone: s.Zone, Price: dollars(o.price / 3), At: stamp(time.Now())})
		}
	}
	return out, nil
}

func (a *AWS) subnets(form url.Values) (any, *refusal) {
	out := struct {
		Subnets []subnet `xml:"subnetSet>item"`
	}{}
	for _, s := range subnets {
		if pass(form, func(name string) []string { return map[string][]string{"subnet-id": {s.ID}}[name] }) {
			out.Subnets = append(out.Subnets, s)
		}
	}
	return out, nil
}

type securityGroup struct {
	ID   string `xml:"groupId"`
	Name string `xml:"groupName"`
}

func (a *AWS) securityGroups(form url.Values) (any, *refusal) {
	out := struct {
		Groups []securityGroup `xml:"securityGroupInfo>item"`
	}{}
	if pass(form, func(name string) []string { return map[string][]string{"group-id": {SecurityGroup}}[name] }) {
		out.Groups = []securityGroup{{ID: SecurityGroup, Name: "nodes"}}
	}
	return out, nil
}

type image struct {
	ID           string `xml:"imageId"`
	Name         string `xml:"name"`
	Architecture string `xml:"architecture"`
	Created      string `xml:"creationDate"`
	State        string `xml:"imageState"`
}

func (a *AWS) images(form url.Values) (any, *refusal) {
	out := struct {
		Images []image `xml:"imagesSet>item"`
	}{}
	if pass(form, func(name string) []string {
		return map[string][]string{"image-id": {Image}, "state": {"available"}}[name]
	}) {
		out.Images = []image{{ID: Image, Name: "nodes", Architecture: "x86_64", Created: "2026-01-02T03:04:05.000Z", State: "available"}}
	}
	return out, nil
}

// instanceProfiles are none: those of an EC2NodeClass with spec.instanceProfile are not Karpenter's.
func (a *AWS) instanceProfiles(url.Values) (any, *refusal) {
	out := struct {
		Truncated bool `xml:"ListInstanceProfilesResult>IsTruncated"`
	}{}
	return out, nil
}

// products answers the service of prices, which speaks JSON.
func products(w http.ResponseWriter, body io.Reader) {
	var asked struct {
		Filters []struct{ Field, Value string }
	}
	if err := json.NewDecoder(body).Decode(&asked); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	sold := offers
	if slices.ContainsFunc(asked.Filters, func(f struct{ Field, Value string }) bool { return f.Field == "tenancy" && f.Value == "Dedicated" }) {
		sold = []offer{metal}
	}
	var list []string
	for _, o := range sold {
		list = append(list, fmt.Sprintf(`{"product":{"attributes":{"instanceType":%q}},"terms":{"OnDemand":{"1":{"priceDimensions":{"1":{"pricePerUnit":{"USD":%q}}}}}}}`,
			o.name, dollars(o.price)))
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	_ = json.NewEncoder(w).Encode(map[string]any{"FormatVersion": "aws_v1", "PriceList": list})
}

func dollars(price float64) string { return strconv.FormatFloat(price, 'f', 6, 64) }
