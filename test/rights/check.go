package rights

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

// programs are our ServiceAccounts, with how the programs that run as them call themselves. Tests that try what a
// stolen token is good for call themselves otherwise, and are not counted.
var programs = map[client.ObjectKey][]string{
	cluster.ServiceAccount:      {"autorepair-controller/", "controller/"}, // the latter is its leader election
	cluster.AgentServiceAccount: {"autorepair-agent"},
	cluster.AWSServiceAccount:   {"controller-aws/"},
}

// Audited are the namespaces of our ServiceAccounts.
var Audited = []string{cluster.ServiceAccount.Namespace, cluster.AgentServiceAccount.Namespace}

// CheckOutside gives an error where a program of ours on the cluster has asked for anything that its roles do
// not list, or was refused anything, unless by an API server that did not know of what its roles allow yet.
func CheckOutside(ctx context.Context, c *cluster.Cluster) error {
	var problems []error
	for account := range programs {
		granted, requests, err := of(ctx, c, account)
		if err != nil {
			return err
		}
		for _, problem := range Outside(granted, requests) {
			problems = append(problems, errors.New(problem))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("comparing what was asked for with what is allowed, %w", err)
	}
	return nil
}

// CheckUnused gives an error where a role of the ServiceAccount gives it a right that nobody needed on this cluster, but
// for those in excepted, which say why; and where one of those was needed, or is no longer given. A run of only some
// tests is not judged.
func CheckUnused(ctx context.Context, c *cluster.Cluster, account client.ObjectKey, excepted map[string]string) error {
	if some() {
		return nil
	}
	granted, requests, err := of(ctx, c, account)
	if err != nil {
		return err
	}
	if len(granted) == 0 || len(requests) == 0 {
		return fmt.Errorf("comparing the rights of %s with what it asked for: it has %d, and asked %d times", account, len(granted), len(requests))
	}
	var problems []string
	unused := map[string]bool{}
	for _, right := range Unused(granted, requests) {
		unused[right.String()] = true
		if excepted[right.String()] == "" {
			problems = append(problems, "nobody needed: "+right.String())
		}
	}
	for right := range excepted {
		if !unused[right] {
			problems = append(problems, "no exception any more, since it was needed or is not given: "+right)
		}
	}
	if len(problems) > 0 {
		slices.Sort(problems)
		return fmt.Errorf("comparing the rights of %s with %d requests: %s", account, len(requests), strings.Join(problems, "\n"))
	}
	return nil
}

// some says whether flags choose only some of the tests of this package.
func some() bool {
	for _, name := range []string{"test.run", "test.skip", "test.list"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != f.DefValue {
			return true
		}
	}
	return false
}

func of(ctx context.Context, c *cluster.Cluster, account client.ObjectKey) ([]Right, []Request, error) {
	granted, err := Granted(ctx, c.Client, account)
	if err != nil {
		return nil, nil, err
	}
	all, err := ReadAudit(filepath.Join(c.Dir, "logs"))
	if err != nil {
		return nil, nil, err
	}
	requests := slices.DeleteFunc(all, func(r Request) bool {
		return r.User != UserName(account) ||
			!slices.ContainsFunc(programs[account], func(name string) bool { return strings.HasPrefix(r.UserAgent, name) })
	})
	return granted, requests, nil
}
