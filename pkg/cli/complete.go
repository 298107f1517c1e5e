package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
)

// completeWithin bounds how long the shell waits for names.
const completeWithin = 3 * time.Second

// completeMachine offers the names of Nodes and NodeClaims for the one argument of a command.
func (o *Options) completeMachine(command *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return o.completeNames(command.Context(), prefix, &corev1.NodeList{}, &karpv1.NodeClaimList{})
}

// completeNames offers the names of all objects of the lists. What cannot be listed offers nothing.
func (o *Options) completeNames(ctx context.Context, prefix string, lists ...client.ObjectList) ([]string, cobra.ShellCompDirective) {
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completeWithin)
	defer cancel()
	cluster, err := o.Connect()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, list := range lists {
		if err := cluster.List(ctx, list, fromCache); err != nil {
			continue
		}
		for _, name := range namesOf(list) {
			if strings.HasPrefix(name, prefix) {
				names = append(names, name)
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func namesOf(list client.ObjectList) []string {
	var names []string
	_ = meta.EachListItem(list, func(item runtime.Object) error {
		if object, ok := item.(client.Object); ok {
			names = append(names, object.GetName())
		}
		return nil
	})
	return names
}
