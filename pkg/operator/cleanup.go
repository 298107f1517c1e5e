package operator

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/cleanup"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/scheme"
)

// podNamespace is where a pod finds the name of its namespace.
const podNamespace = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// Cleanup takes back what the controller has written on objects of others. Of the options it heeds the kubeconfig, the
// limits of requests, the namespace of the lease and the log. The leader is given grace to let go of its repairs.
func Cleanup(ctx context.Context, options Options, grace time.Duration, version string) error {
	if err := options.Validate(); err != nil {
		return err
	}
	setLogger(options)
	namespace := options.LeaderElectionNamespace
	if namespace == "" {
		text, err := os.ReadFile(podNamespace)
		if err != nil {
			return fmt.Errorf("finding the namespace of the lease: set --leader-election-namespace, %w", err)
		}
		namespace = strings.TrimSpace(string(text))
	}
	config, err := restConfig(options, version)
	if err != nil {
		return err
	}
	kubeClient, err := client.New(config, client.Options{Scheme: scheme.New()})
	if err != nil {
		return fmt.Errorf("making the client of the API server, %w", err)
	}
	ctx = log.IntoContext(ctx, log.Log)
	cleaner := &cleanup.Cleaner{
		Client: kubeClient, Clock: clock.RealClock{}, Lease: client.ObjectKey{Namespace: namespace, Name: v1alpha1.LeaseName}, Grace: grace,
	}
	if err := cleaner.Run(ctx); err != nil {
		return fmt.Errorf("cleaning up, %w", err)
	}
	log.FromContext(ctx).Info("cleaned up")
	return nil
}
