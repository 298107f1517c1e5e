package rules_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/rules"
)

// burns is a good rule with a reason of its own; change makes another of it.
func burns(change ...func(*rules.Rule)) rules.Rule {
	r := rules.Rule{
		Reason: "DiskOnFire", Category: v1alpha1.CategoryStorage, Stream: health.StreamKmsg, Pattern: `^disk (?P<disk>\w+) burns`, Subject: "${disk}",
		Sample: "disk sda burns", CounterSample: "disk sda is warm",
	}
	for _, c := range change {
		c(&r)
	}
	return r
}

func TestARuleOfOnesOwn(t *testing.T) {
	c := catalogue(t, rules.Custom{Rules: []rules.Rule{burns(func(r *rules.Rule) { r.Severity, r.Explanation = v1alpha1.SeverityFatal, "It burns." })}})
	got, ok := c.Match(health.StreamKmsg, "disk sda burns")
	require.True(t, ok)
	require.Equal(t, rules.Match{
		Reason: "DiskOnFire", Subject: "sda", Category: v1alpha1.CategoryStorage, Severity: v1alpha1.SeverityFatal, Message: "disk sda burns",
	}, got)
	reason, ok := c.Reason("DiskOnFire")
	require.True(t, ok)
	require.Equal(t, health.Clears{By: health.ClearsByQuiet, Quiet: 15 * time.Minute}, reason.Clears)
	require.Equal(t, "It burns.", reason.Explanation)
	require.Contains(t, c.Reasons(), reason)

	_, ok = c.Match(health.StreamKubelet, "disk sda burns")
	require.False(t, ok, "it is for another stream")
	_, ok = c.Match(health.StreamKmsg, "disk sda is warm")
	require.False(t, ok)
	_, ok = catalogue(t, rules.Custom{}).Match(health.StreamKmsg, "disk sda burns")
	require.False(t, ok)
}

func TestARuleOfOnesOwnIsTriedBeforeThoseOfTheProject(t *testing.T) {
	const line = "watchdog: BUG: soft lockup - CPU#3 stuck for 22s!"
	c := catalogue(t, rules.Custom{Rules: []rules.Rule{{
		Reason: health.ReasonKernelBug, Stream: health.StreamKmsg, Pattern: `soft lockup - CPU#3`, Sample: line, CounterSample: "soft lockup - CPU#2",
	}}})
	got, ok := c.Match(health.StreamKmsg, line)
	require.True(t, ok)
	require.Equal(t, health.ReasonKernelBug, got.Reason)
}

func TestARuleGivesASeverityOfItsOwn(t *testing.T) {
	c := catalogue(t, rules.Custom{Rules: []rules.Rule{{
		Reason: health.ReasonXfsShutdown, Severity: v1alpha1.SeverityWarning, Stream: health.StreamKmsg, Pattern: `^xfs is tired`,
		Sample: "xfs is tired", CounterSample: "xfs is well",
	}}})
	got, ok := c.Match(health.StreamKmsg, "xfs is tired")
	require.True(t, ok)
	require.Equal(t, v1alpha1.SeverityWarning, got.Given)
	got, ok = c.Match(health.StreamKmsg, "XFS (nvme1n1): log I/O error -5")
	require.True(t, ok)
	require.Empty(t, got.Given, "the reason's own, which may be Fatal")
}

func TestOverrides(t *testing.T) {
	const (
		lockup = "watchdog: BUG: soft lockup - CPU#3 stuck for 22s!"
		hung   = "INFO: task java:4711 blocked for more than 120 seconds."
	)
	for name, tc := range map[string]struct {
		reasons map[string]rules.Override
		line    string
		want    rules.Match // Category, Message aside
		nothing bool
	}{
		"a reason can be switched off":                    {reasons: map[string]rules.Override{"SoftLockup": {Disabled: true}}, line: lockup, nothing: true},
		"what is switched off still counts toward others": {reasons: map[string]rules.Override{"AppBlocked": {Disabled: true}}, line: hung, want: rules.Match{Reason: "KernelDeadlock", Severity: "Warning"}},
		"nothing counts toward what is switched off":      {reasons: map[string]rules.Override{"KernelDeadlock": {Disabled: true}}, line: hung, want: rules.Match{Reason: "AppBlocked", Subject: "java", Severity: "Warning"}},
		"both can be switched off":                        {reasons: map[string]rules.Override{"KernelDeadlock": {Disabled: true}, "AppBlocked": {Disabled: true}}, line: hung, nothing: true},
		"a Warning can be made Fatal":                     {reasons: map[string]rules.Override{"SoftLockup": {Severity: "Fatal"}}, line: lockup, want: rules.Match{Reason: "SoftLockup", Severity: "Fatal"}},
		"but not alone where more are asked for":          {reasons: map[string]rules.Override{"SoftLockup": {Severity: "Fatal", Confirm: "2 in 1m"}}, line: lockup, want: rules.Match{Reason: "SoftLockup", Severity: "Warning"}},
		"nor where it must stand for a time":              {reasons: map[string]rules.Override{"SoftLockup": {Severity: "Fatal", Confirm: "10s"}}, line: lockup, want: rules.Match{Reason: "SoftLockup", Severity: "Warning"}},
		"a Warning can be Fatal from the first":           {reasons: map[string]rules.Override{"SoftLockup": {FatalFrom: "1"}}, line: lockup, want: rules.Match{Reason: "SoftLockup", Severity: "Fatal"}},
		"a Fatal reason can be made a Warning":            {reasons: map[string]rules.Override{"NVMeControllerFailure": {Severity: "Warning"}}, line: "nvme nvme0: Removing after probe failure status: -19", want: rules.Match{Reason: "NVMeControllerFailure", Subject: "nvme0", Severity: "Warning"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := catalogue(t, rules.Custom{Reasons: tc.reasons}).Match(health.StreamKmsg, tc.line)
			require.Equal(t, !tc.nothing, ok)
			got.Category, got.Message = "", ""
			require.Equal(t, tc.want, got)
		})
	}
}

func TestOverridesOfReasons(t *testing.T) {
	c := catalogue(t, rules.Custom{Reasons: map[string]rules.Override{
		"SoftLockup":         {Confirm: "2 in 1m", FatalFrom: "5 in 10m", Clears: "quiet 1h"},
		"KernelHang":         {FatalFrom: "never"},
		"BlockDeviceIOError": {Severity: v1alpha1.SeverityWarning},
		"NvidiaXID<n>Error":  {Severity: v1alpha1.SeverityWarning},
		"NvidiaXID54Error":   {Disabled: true},
	}})
	get := func(name string) health.Reason {
		r, ok := c.Reason(name)
		require.True(t, ok, name)
		return r
	}
	require.Equal(t, health.Confirm{Count: 2, Within: time.Minute}, get("SoftLockup").Confirm)
	require.Equal(t, &health.Confirm{Count: 5, Within: 10 * time.Minute}, get("SoftLockup").FatalFrom)
	require.Equal(t, health.Clears{By: health.ClearsByQuiet, Quiet: time.Hour}, get("SoftLockup").Clears)
	require.Nil(t, get("KernelHang").FatalFrom)
	require.Nil(t, get("BlockDeviceIOError").FatalFrom, "a person who says Warning means it")
	require.Equal(t, v1alpha1.SeverityWarning, get("NvidiaXID79Error").Severity, "of a family, all")
	require.Equal(t, v1alpha1.SeverityFatal, get("NvidiaXID48Error").Severity, "of another family, none")
	require.True(t, c.Off("NvidiaXID54Error"))
	require.False(t, c.Off("NvidiaXID79Error"))
	require.False(t, c.Off("NobodyKnows"))
	_, ok := c.Reason("NobodyKnows")
	require.False(t, ok)
	want, _ := health.Lookup("KernelBug")
	require.Equal(t, want, get("KernelBug"), "what nobody changed stays")
	require.Len(t, c.Reasons(), len(health.Reasons))
}

func TestAnOverrideHoldsForAReasonOfOnesOwn(t *testing.T) {
	c := catalogue(t, rules.Custom{
		Rules:   []rules.Rule{burns(func(r *rules.Rule) { r.Severity = v1alpha1.SeverityFatal })},
		Reasons: map[string]rules.Override{"DiskOnFire": {Severity: v1alpha1.SeverityWarning}},
	})
	got, ok := c.Match(health.StreamKmsg, "disk sda burns")
	require.True(t, ok)
	require.Equal(t, v1alpha1.SeverityWarning, got.Severity)
}

func TestProblems(t *testing.T) {
	rule := func(change func(*rules.Rule)) rules.Custom {
		return rules.Custom{Rules: []rules.Rule{burns(), burns(change)}}
	}
	fresh := func(change func(*rules.Rule)) rules.Custom { return rules.Custom{Rules: []rules.Rule{burns(change)}} }
	reason := func(name string, o rules.Override) rules.Custom {
		return rules.Custom{Reasons: map[string]rules.Override{name: o}}
	}
	for name, tc := range map[string]struct {
		custom   rules.Custom
		wantPath string
		want     string
	}{
		"a pattern that does not compile":        {custom: fresh(func(r *rules.Rule) { r.Pattern = "(" }), wantPath: "rules[0].pattern", want: "write a regular expression"},
		"a pattern of Perl's own":                {custom: fresh(func(r *rules.Rule) { r.Pattern = "a(?!b)" }), wantPath: "rules[0].pattern", want: "RE2"},
		"a pattern for every line":               {custom: fresh(func(r *rules.Rule) { r.Pattern, r.Subject = ".*", "" }), wantPath: "rules[0].pattern", want: "matches every line"},
		"no sample":                              {custom: fresh(func(r *rules.Rule) { r.Sample = "" }), wantPath: "rules[0].sample", want: "write a line"},
		"a sample of something else":             {custom: fresh(func(r *rules.Rule) { r.Sample = "x" }), wantPath: "rules[0].sample", want: "does not match"},
		"a counter-sample that matches":          {custom: fresh(func(r *rules.Rule) { r.CounterSample = r.Sample }), wantPath: "rules[0].counterSample", want: "matches the pattern"},
		"a subject without its group":            {custom: fresh(func(r *rules.Rule) { r.Subject = "${x}" }), wantPath: "rules[0].subject", want: "has no group"},
		"an unknown stream":                      {custom: fresh(func(r *rules.Rule) { r.Stream = "x" }), wantPath: "rules[0].stream", want: "write one of kmsg"},
		"an unknown category":                    {custom: fresh(func(r *rules.Rule) { r.Category = "x" }), wantPath: "rules[0].category", want: "write one of Kernel"},
		"a category without condition":           {custom: fresh(func(r *rules.Rule) { r.Category = "Request" }), wantPath: "rules[0].category", want: "write one of Kernel"},
		"an unknown severity":                    {custom: fresh(func(r *rules.Rule) { r.Severity = "x" }), wantPath: "rules[0].severity", want: "write Fatal or Warning"},
		"a reason that is no word":               {custom: fresh(func(r *rules.Rule) { r.Reason = "on fire" }), wantPath: "rules[0].reason", want: "CamelCase"},
		"a confirm that nobody reads":            {custom: fresh(func(r *rules.Rule) { r.Confirm = "often" }), wantPath: "rules[0].confirm", want: "write a duration"},
		"a second rule that says it again":       {custom: rule(func(r *rules.Rule) { r.Confirm = "2"; r.Category = "" }), wantPath: "rules[1].confirm", want: "leave it out"},
		"a known reason with another category":   {custom: fresh(func(r *rules.Rule) { r.Reason = "KernelBug" }), wantPath: "rules[0].category", want: "leave it out"},
		"toward a reason that is not there":      {custom: fresh(func(r *rules.Rule) { r.CountsToward = "X" }), wantPath: "rules[0].countsToward", want: "write another reason"},
		"a recovery that counts":                 {custom: fresh(func(r *rules.Rule) { r.CountsToward, r.Recovers = "KernelBug", true }), wantPath: "rules[0].countsToward", want: "counts for nothing"},
		"an override of nothing":                 {custom: reason("SoftLookup", rules.Override{}), wantPath: "reasons.SoftLookup", want: "is no reason"},
		"an override with an unknown severity":   {custom: reason("SoftLockup", rules.Override{Severity: "Bad"}), wantPath: "reasons.SoftLockup.severity", want: "write Fatal or Warning"},
		"an override with a wrong confirm":       {custom: reason("SoftLockup", rules.Override{Confirm: "3 of 10m"}), wantPath: "reasons.SoftLockup.confirm", want: "N in DURATION"},
		"an override with a wrong clears":        {custom: reason("SoftLockup", rules.Override{Clears: "soon"}), wantPath: "reasons.SoftLockup.clears", want: "write poll, boot"},
		"an override with a fatalFrom of a time": {custom: reason("SoftLockup", rules.Override{FatalFrom: "10m"}), wantPath: "reasons.SoftLockup.fatalFrom", want: "write how often"},
		"Fatal and fatalFrom":                    {custom: reason("SoftLockup", rules.Override{Severity: "Fatal", FatalFrom: "3"}), wantPath: "reasons.SoftLockup.fatalFrom", want: "leave it out"},
		"too many rules":                         {custom: rules.Custom{Rules: make([]rules.Rule, 257)}, wantPath: "rules", want: "256 at most"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := rules.New(tc.custom)
			require.Error(t, err)
			var paths []string
			for _, p := range rules.Problems(err) {
				paths = append(paths, p.Path)
				if p.Path == tc.wantPath {
					require.ErrorContains(t, p, tc.want)
					return
				}
			}
			t.Fatalf("no problem at %s, but at %v", tc.wantPath, paths)
		})
	}
}

func TestAllProblemsAreTold(t *testing.T) {
	_, err := rules.New(rules.Custom{
		Rules:   []rules.Rule{burns(func(r *rules.Rule) { r.Pattern, r.Stream, r.Severity = "(", "x", "x" })},
		Reasons: map[string]rules.Override{"SoftLockup": {Severity: "x", Confirm: "x"}},
	})
	require.Len(t, rules.Problems(err), 5)
	require.Nil(t, rules.Problems(nil))
}
