package cli

import (
	"context"
	"path/filepath"
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
func (o *Options) completeNames(ctx context.Context, prefix string, lists ...client.ObjectList) ([]string, cobra.ShellCompDirective) { //nolint:contextcheck // a completion may have none
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

// explainCompletion says how kubectl itself completes the arguments of the plugin.
func explainCompletion(root *cobra.Command) {
	for _, command := range root.Commands() {
		switch command.Name() {
		case "help":
			command.Example = "  kubectl autorepair help status"
		case "completion":
			command.Long = "completion prints a completion script for kubectl-autorepair, called by that name.\n\n" +
				"For kubectl autorepair, kubectl (from 1.26) asks a program of the name " + CompleteName + " in the PATH; this\n" +
				"program is one, if it is called so."
			command.Example = "  # let kubectl complete: kubectl autorepair explain <TAB>\n" +
				"  ln -s \"$(command -v kubectl-autorepair)\" ~/.local/bin/" + CompleteName + "\n\n" +
				"  # kubectl-autorepair <TAB>\n  source <(kubectl autorepair completion bash)"
			for _, shell := range command.Commands() {
				shell.Example = "  kubectl autorepair completion " + shell.Name()
			}
		}
	}
}

// CompleteName is the name of the program that kubectl asks for completions of the plugin's arguments
// (https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/).
const CompleteName = "kubectl_complete-autorepair"

// Args are the arguments of the program: it completes where it has been called by CompleteName.
func Args(args []string) []string {
	if len(args) == 0 {
		return nil
	}
	name := strings.TrimSuffix(filepath.Base(args[0]), ".exe")
	if name == CompleteName {
		return append([]string{cobra.ShellCompRequestCmd}, args[1:]...)
	}
	return args[1:]
}
