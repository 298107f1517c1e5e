package main

import (
	"fmt"
	"slices"
	"strings"
)

// recipe of an image: one static program and what is said of it.
type recipe struct {
	name        string
	module      string // directory under the root of the repository, of the module with the program
	pkg         string // of the program, in its module
	description string
}

// nonRoot is the user that programs run as where nothing else is asked of them. The agent's DaemonSet asks for root.
const nonRoot = 65532

var recipes = []recipe{
	{name: "controller", module: ".", pkg: "./cmd/controller", description: "Finds broken nodes and replaces them through Karpenter"},
	{name: "agent", module: ".", pkg: "./cmd/agent", description: "States what is wrong with the node that it runs on"},
	{name: "controller-aws", module: ".", pkg: "./cmd/controller-aws", description: "Tells the cluster what only AWS knows of its nodes"},
	// For clusters without a registry, as those of the tests.
	{name: "pause", module: "tools/image", pkg: "./pause", description: "Holds the namespaces of a pod"},
}

func names() []string {
	var all []string
	for _, r := range recipes {
		all = append(all, r.name)
	}
	return all
}

func choose(wanted []string) ([]recipe, error) {
	if len(wanted) == 0 {
		return recipes, nil
	}
	var chosen []recipe
	for _, name := range wanted {
		i := slices.IndexFunc(recipes, func(r recipe) bool { return r.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no image is named %q: write some of %s", name, strings.Join(names(), ", "))
		}
		chosen = append(chosen, recipes[i])
	}
	return chosen, nil
}
