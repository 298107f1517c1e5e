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
	InNode:  becomeInNode,
	Service: serveService,
}

var errArguments = errors.New("this is started by localcluster up --real-node, not by people")

// becomeInNode takes the cluster's directory, the pid of a process in the node or 0 for a new namespace, and a command.
func becomeInNode(args []string) error {
	if len(args) < 3 {
		return errArguments
	}
	pid, err := strconv.Atoi(args[1])
	if err != nil {
		return fmt.Errorf("reading the process to follow, %w", err)
	}
	if pid == 0 {
		return realnode.In(args[0]).Become(args[2:])
	}
	return realnode.Enter(pid, args[2:])
}

func serveService(args []string) error {
	if len(args) != 1 {
		return errArguments
	}
	return realnode.ServeService(context.Background(), args[0])
}
