package node

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netns"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

// rejectRules finds rules of the firewall (nft, and iptables where it is built on nf_tables) that reject packets and
// that no network of pods has made. Rules of the older iptables-legacy are not in what nfnetlink gives.
type rejectRules struct {
	path    string
	allowed []string
	last    []tracking.Fault
}

// netOwnChains begin the names of chains in which rules reject as they should: of kube-proxy and the kubelet, of
// network plugins, of container engines, of virtual machines and of service meshes.
var netOwnChains = []string{
	"KUBE-", "CNI-", "cali-", "califw-", "calitw-", "CILIUM_", "OLD_CILIUM_", "FLANNEL-", "WEAVE-", "AWS-", "ANTREA-", "OVN-KUBE-",
	"DOCKER", "NETAVARK", "LIBVIRT_", "ISTIO_", "NODE-LOCAL-DNS",
}

// netOwnTables begin the names of whole tables of the same.
var netOwnTables = []string{
	"kube-proxy", "cilium", "calico", "cali-", "kube-network-policies", "ovn-kubernetes", "antrea", "docker-bridges", "netavark", "istio",
}

// Bounds of one look.
const (
	maxRejectChains   = 256
	maxRejectFindings = 32
)

const rejectReason = "UnexpectedRejectRule"

func newRejectRules(path string, allowed []string) *rejectRules {
	return &rejectRules{path: path, allowed: slices.Concat(netOwnChains, allowed)}
}

// look gives what was found last along with an error: a chain that went while it was read is no sign that all is well.
func (r *rejectRules) look() ([]tracking.Fault, error) {
	faults, err := r.find()
	if err == nil {
		r.last = faults
	}
	return r.last, err
}

// find walks from the chains that packets of the node and of its pods go through to those that they jump to.
func (r *rejectRules) find() ([]tracking.Fault, error) {
	options := []nftables.ConnOption{nftables.AsLasting()}
	if r.path != "" {
		ns, err := netns.GetFromPath(r.path)
		if err != nil {
			return nil, fmt.Errorf("opening network namespace %s, %w", r.path, err)
		}
		defer ns.Close() //nolint:errcheck // it was only read from
		options = append(options, nftables.WithNetNSFd(int(ns)))
	}
	conn, err := nftables.New(options...)
	if err != nil {
		return nil, fmt.Errorf("opening nfnetlink, %w", err)
	}
	defer conn.CloseLasting() //nolint:errcheck // it was only read from
	var faults []tracking.Fault
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6, nftables.TableFamilyINet} {
		found, err := r.lookAt(conn, family)
		if err != nil {
			return nil, err
		}
		faults = append(faults, found...)
	}
	return faults[:min(len(faults), maxRejectFindings)], nil
}

func (r *rejectRules) lookAt(conn *nftables.Conn, family nftables.TableFamily) ([]tracking.Fault, error) {
	tables, err := conn.ListTablesOfFamily(family)
	if err != nil {
		return nil, fmt.Errorf("listing tables, %w", err)
	}
	var faults []tracking.Fault
	for _, table := range tables {
		if hasPrefixOf(table.Name, netOwnTables) {
			continue
		}
		chains, err := rejectBaseChains(conn, table)
		if err != nil {
			return nil, err
		}
		found, err := r.walk(conn, table, chains)
		if err != nil {
			return nil, err
		}
		faults = append(faults, found...)
	}
	return faults, nil
}

// rejectBaseChains are where packets enter a table. iptables has them by fixed names in one table of fixed name; asking
// for those spares listing the thousands of chains that kube-proxy has.
func rejectBaseChains(conn *nftables.Conn, table *nftables.Table) ([]string, error) {
	var names []string
	switch table.Name {
	case "filter":
		for _, name := range []string{"INPUT", "FORWARD", "OUTPUT"} {
			if _, err := conn.ListChain(table, name); err == nil {
				names = append(names, name)
			}
		}
		if len(names) > 0 {
			return names, nil
		}
	case "nat", "mangle", "raw", "security":
		if table.Family != nftables.TableFamilyINet {
			return nil, nil // iptables lets rules reject in the table filter only
		}
	}
	chains, err := conn.ListChainsOfTableFamily(table.Family)
	if err != nil {
		return nil, fmt.Errorf("listing chains, %w", err)
	}
	for _, c := range chains {
		if c.Table.Name == table.Name && c.Hooknum != nil && len(names) < maxRejectChains {
			names = append(names, c.Name)
		}
	}
	return names, nil
}

func (r *rejectRules) walk(conn *nftables.Conn, table *nftables.Table, chains []string) ([]tracking.Fault, error) {
	var faults []tracking.Fault
	for at := 0; at < len(chains) && at < maxRejectChains; at++ {
		rules, err := conn.GetRules(table, &nftables.Chain{Name: chains[at], Table: table})
		if err != nil {
			return nil, fmt.Errorf("listing rules of %s, %w", chains[at], err)
		}
		var rejects []uint64
		for _, rule := range rules {
			rejecting, next := verdictOf(rule.Exprs)
			if rejecting {
				rejects = append(rejects, rule.Handle)
			}
			if next != "" && !slices.Contains(chains, next) && !hasPrefixOf(next, r.allowed) {
				chains = append(chains, next)
			}
		}
		if len(rejects) > 0 && !hasPrefixOf(chains[at], r.allowed) {
			faults = append(faults, rejectFault(table, chains[at], rejects))
		}
	}
	return faults, nil
}

// verdictOf a rule: whether it rejects, and the chain that it jumps to. iptables has a target of its own for REJECT,
// nft an expression.
func verdictOf(exprs []expr.Any) (rejects bool, next string) {
	for _, e := range exprs {
		switch e := e.(type) {
		case *expr.Reject:
			rejects = true
		case *expr.Target:
			rejects = rejects || e.Name == "REJECT"
		case *expr.Verdict:
			if e.Kind == expr.VerdictJump || e.Kind == expr.VerdictGoto {
				next = e.Chain
			}
		}
	}
	return rejects, next
}

var rejectFamilies = map[nftables.TableFamily]string{
	nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6", nftables.TableFamilyINet: "inet",
}

func rejectFault(table *nftables.Table, chain string, handles []uint64) tracking.Fault {
	subject := fmt.Sprintf("%s %s %s", rejectFamilies[table.Family], table.Name, chain)
	fault := tracking.Fault{Reason: rejectReason, Subject: subject, Message: "a rule in chain " + subject + " rejects packets"}
	if len(handles) > 1 {
		fault.Message = fmt.Sprintf("%d rules in chain %s reject packets", len(handles), subject)
	}
	for _, h := range handles[:min(len(handles), 5)] {
		fault.Evidence = append(fault.Evidence, fmt.Sprintf("nft -a list chain %s # handle %d", subject, h))
	}
	return fault
}

func hasPrefixOf(name string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return p != "" && strings.HasPrefix(name, p) })
}
