package linked

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/realnode"
)

// ofNode are the programs of the real node that have no command line but their arguments.
var ofNode = map[string]func(args []string) error{
	Containerd: becomeContainerd,
	EnterNode:  enterNode,
	Service:    serveService,
}

var errArguments = errors.New("this is started by localcluster up --real-node, not by people")

func becomeContainerd(args []string) error {
	if len(args) != 1 {
		return errArguments
	}
	node := realnode.In(args[0])
	return node.Become(node.ContainerdCommand())
}

func enterNode(args []string) error {
	if len(args) < 2 {
		return errArguments
	}
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return fmt.Errorf("reading the process to follow, %w", err)
	}
	return realnode.Enter(pid, args[1:])
}

func serveService(args []string) error {
	if len(args) != 1 {
		return errArguments
	}
	return realnode.ServeService(context.Background(), args[0])
}
