package decision

// gate looks at one sick node and gives what it has against its repair; nothing where it is open.
type gate func(*index, *candidate) []Blocker

// gates in the order in which people see them. Every one is asked about every sick node.
var gates = []gate{
	gatePolicy,             // toleration, no policy, conflict, invalid, Paused, DryRun
	gateAllPaused,          // somebody stopped everything
	gateZonePaused,         // or all in the node's zone
	gatePoolPaused,         // or the NodePool
	gateVeto,               // or said no to this node
	gateRegistered,         // Karpenter's registration timeout owns what never registered
	gateStandalone,         // nobody refills a NodeClaim without a NodePool
	gatePoolExists,         // no NodePool, no budget and no template
	gatePoolReady,          // a replacement could not launch
	gatePoolStatic,         // Karpenter deletes what exceeds the replicas, the replacement first
	gatePoolLimits,         // no room for a replacement beside the node
	gateBudget,             // the owner's say on how many at once
	gatePods,               // pods that may hold up the drain for ever
	gateCorrelated,         // many sick at once is one fault, not many
	gateBackoff,            // what failed lately is not hurried
	gateLaunching,          // unlaunched NodeClaims stall Karpenter
	gateKarpenterActing,    // never two on one node
	gateOtherRepairer,      // never two repairers
	gateRepairInProgress,   // at most one unfinished NodeRepair per NodeClaim
	gateReadable,           // in doubt do nothing
	gateReplacementsFailed, // repairing again would not help
}

func (ix *index) blockers(c *candidate) []Blocker {
	var out []Blocker
	for _, g := range gates {
		out = append(out, g(ix, c)...)
	}
	return out
}
