package decision

// Survey is how a fleet stands, without deciding anything: what is shown beside the nodes.
type Survey struct {
	// Suspects are the suspect domains, by kind and name.
	Suspects []Suspect
	// Allowances by NodePool.
	Allowances map[string]Allowance
}

// Allowance is what the disruption budgets of a NodePool say now of repairs.
type Allowance struct {
	// Limit on nodes that may be disrupted for reason Unhealthy at once; math.MaxInt32 where no budget limits it.
	Limit int
	// InFlight is how many take up the budget, those that Karpenter disrupts for its own reasons included.
	InFlight int
	// Problem says why the budgets cannot be read, and what to correct; then nothing is repaired. Empty where they can.
	Problem string
}

// SurveyOf reckons how the fleet of an Input stands.
func SurveyOf(in Input) Survey {
	ix := newIndex(in)
	out := Survey{Suspects: ix.suspects(), Allowances: make(map[string]Allowance, len(in.NodePools))}
	for name := range in.NodePools {
		p := ix.pool(name)
		if p.object == nil {
			continue
		}
		a := p.allowanceOf(ix)
		allowance := Allowance{Limit: a.limit, InFlight: len(p.inFlight)}
		if a.err != nil {
			allowance.Limit = 0
			for _, b := range budgetInvalid(p, in.Now) {
				allowance.Problem = b.Message
			}
		}
		out.Allowances[name] = allowance
	}
	return out
}
