// Code generated from reasons.yaml by `go generate ./pkg/health`. DO NOT EDIT.

package health

// LineRules are the rules for log lines, in the order of reasons.yaml: of several that match, the first counts.
var LineRules = []LineRule{
	{
		Reason:        ReasonConntrackExceededKernel,
		Stream:        "kmsg",
		Pattern:       `^(?:net_ratelimit: )?nf_conntrack: (?:nf_conntrack: )?table full, dropping packet`,
		Sample:        `nf_conntrack: nf_conntrack: table full, dropping packet`,
		CounterSample: `nf_conntrack: default automatic helper assignment has been turned off for security reasons`,
	},
	{
		Reason:        ReasonUnregisterNetDevice,
		Stream:        "kmsg",
		Pattern:       `^unregister_netdevice: waiting for (?P<interface>\S+) to become free`,
		Subject:       "${interface}",
		Sample:        `unregister_netdevice: waiting for lo to become free. Usage count = 1`,
		CounterSample: `device veth3a1b left promiscuous mode`,
	},
}
