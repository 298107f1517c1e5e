package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/arczonalshift"
	awsec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	awsapis "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	controllerruntime "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/ec2/instancestatus"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/ec2/zonalshift"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector/ec2"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/scheme"
)

// leaseName is the lease of our leader election.
const leaseName = "autorepair-controller-aws"

type options struct {
	take                    []string
	clusterARN              string
	interval                time.Duration
	leaderElect             bool
	leaderElectionNamespace string
	metricsBindAddress      string
	healthProbeBindAddress  string
}

func (o *options) addFlags(flags *pflag.FlagSet) {
	flags.StringSliceVar(&o.take, "take", []string{health.ReasonAttachedEBSStatusImpaired},
		"what to look for, of "+strings.Join(ec2.Reasons, ", ")+"; Karpenter itself deletes instances for all but the default, at once and without a budget, unless its role lacks "+ec2.Permission)
	flags.StringVar(&o.clusterARN, "cluster-arn", "", "ARN of the EKS cluster, to hold repairs in zones that it is being shifted away from; empty to leave zonal shifts alone")
	flags.DurationVar(&o.interval, "interval", time.Minute, "time between two questions to EC2, at least 10s; its status checks run once a minute")
	flags.BoolVar(&o.leaderElect, "leader-elect", true, "let one replica act at a time, by the lease "+leaseName)
	flags.StringVar(&o.leaderElectionNamespace, "leader-election-namespace", "", "namespace of the lease; empty for the namespace of the pod (required outside of a cluster)")
	flags.StringVar(&o.metricsBindAddress, "metrics-bind-address", "0", "address of the metrics endpoint, 0 for none")
	flags.StringVar(&o.healthProbeBindAddress, "health-probe-bind-address", ":8081", "address of /healthz and /readyz, 0 for none")
}

func (o *options) validate() error {
	if o.interval < 10*time.Second {
		return fmt.Errorf("--interval=%s is too short: write 10s or more", o.interval)
	}
	if o.clusterARN == "" {
		return nil
	}
	if parsed, err := arn.Parse(o.clusterARN); err != nil || parsed.Service != "eks" || !strings.HasPrefix(parsed.Resource, "cluster/") {
		return fmt.Errorf("--cluster-arn=%q is not the ARN of an EKS cluster: write for example arn:aws:eks:us-west-2:111122223333:cluster/mine", o.clusterARN)
	}
	return nil
}

func run(ctx context.Context, o options, version string) error {
	if err := o.validate(); err != nil {
		return err
	}
	logger := zap.New(zap.UseDevMode(false))
	controllerruntime.SetLogger(logger)
	klog.SetLogger(logger)
	awsConfig, err := config.LoadDefaultConfig(ctx, config.WithRetryMode(aws.RetryModeAdaptive), config.WithAppID("karpenter-autorepair"))
	if err != nil {
		return fmt.Errorf("reading the configuration of the AWS SDK, %w", err)
	}
	if awsConfig.Region == "" {
		return fmt.Errorf("the AWS SDK knows no region: set AWS_REGION")
	}
	lister, err := ec2.NewLister(awsec2.NewFromConfig(awsConfig), clock.RealClock{}, o.take)
	if err != nil {
		return fmt.Errorf("--take, %w", err)
	}
	m, err := newManager(o)
	if err != nil {
		return err
	}
	status := instancestatus.NewController(clock.RealClock{}, m.GetClient(), m.GetAPIReader(), lister, o.interval)
	if err := status.Register(ctx, m); err != nil {
		return fmt.Errorf("registering controller %s, %w", status.Name(), err)
	}
	if o.clusterARN != "" {
		shifts := zonalshift.NewController(clock.RealClock{}, m.GetClient(), m.GetAPIReader(), arczonalshift.NewFromConfig(awsConfig), o.clusterARN, o.interval/2)
		if err := shifts.Register(ctx, m); err != nil {
			return fmt.Errorf("registering controller %s, %w", shifts.Name(), err)
		}
	}
	logger.Info("starting", "version", version, "region", awsConfig.Region, "take", o.take, "clusterARN", o.clusterARN)
	if err := m.Start(ctx); err != nil {
		return fmt.Errorf("running, %w", err)
	}
	return nil
}

func newManager(o options) (manager.Manager, error) {
	kubeConfig, err := controllerruntime.GetConfig()
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig, %w", err)
	}
	m, err := controllerruntime.NewManager(kubeConfig, manager.Options{
		Scheme:                        kinds(),
		Cache:                         cache.Options{ByObject: map[client.Object]cache.ByObject{&corev1.Node{}: {Transform: slim}}, DefaultTransform: cache.TransformStripManagedFields()},
		LeaderElection:                o.leaderElect,
		LeaderElectionID:              leaseName,
		LeaderElectionNamespace:       o.leaderElectionNamespace,
		LeaderElectionReleaseOnCancel: true,
		Metrics:                       metricsserver.Options{BindAddress: o.metricsBindAddress},
		HealthProbeBindAddress:        o.healthProbeBindAddress,
	})
	if err != nil {
		return nil, fmt.Errorf("making the manager, %w", err)
	}
	if err := m.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return nil, fmt.Errorf("adding the health check, %w", err)
	}
	if err := m.AddReadyzCheck("ping", healthz.Ping); err != nil {
		return nil, fmt.Errorf("adding the readiness check, %w", err)
	}
	return m, nil
}

// kinds are ours and EC2NodeClasses.
func kinds() *runtime.Scheme {
	kinds := scheme.New()
	version := schema.GroupVersion{Group: "karpenter.k8s.aws", Version: "v1"}
	kinds.AddKnownTypes(version, &awsapis.EC2NodeClass{}, &awsapis.EC2NodeClassList{})
	metav1.AddToGroupVersion(kinds, version)
	return kinds
}

// slim leaves of a Node what identifies it.
func slim(object any) (any, error) {
	if node, ok := object.(*corev1.Node); ok {
		return &corev1.Node{TypeMeta: node.TypeMeta, ObjectMeta: metav1.ObjectMeta{Name: node.Name, UID: node.UID, ResourceVersion: node.ResourceVersion}}, nil
	}
	return object, nil
}
