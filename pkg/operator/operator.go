package operator

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap/zapcore"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	controllerruntime "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/metrics"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/scheme"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/snapshot"
)

// Run runs the controller until the context ends or leadership is lost.
func Run(ctx context.Context, options Options, version string) error {
	if err := options.Validate(); err != nil {
		return err
	}
	mappings, err := cluster.LoadNodeConditions(options.NodeConditionsConfig)
	if err != nil {
		return err //nolint:wrapcheck // says all there is to say
	}
	setLogger(options)
	config, err := restConfig(options, version)
	if err != nil {
		return err
	}
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return fmt.Errorf("making the client of the API server, %w", err)
	}
	mapper, err := apiutil.NewDynamicRESTMapper(config, httpClient)
	if err != nil {
		return fmt.Errorf("asking the API server for its kinds, %w", err)
	}
	if err := CheckKinds(mapper); err != nil {
		return err
	}
	m, err := newManager(config, options)
	if err != nil {
		return err
	}
	if err := addIndexes(ctx, m.GetFieldIndexer()); err != nil {
		return err
	}
	series := metrics.New()
	if err := addServers(m, options, series); err != nil {
		return err
	}
	discovery := snapshot.NewDiscovery(m.GetAPIReader(), options.karpenterOverrides())
	for _, controller := range controllers.New(m, clock.RealClock{}, discovery, series, mappings) {
		if err := controller.Register(ctx, m); err != nil {
			return fmt.Errorf("registering controller %s, %w", controller.Name(), err)
		}
	}
	log.FromContext(ctx).Info("starting", "version", version)
	if err := m.Start(ctx); err != nil {
		return fmt.Errorf("running, %w", err)
	}
	return nil
}

func setLogger(options Options) {
	level, _ := zapcore.ParseLevel(options.LogLevel) // Validate has read it already
	readableTime := func(config *zapcore.EncoderConfig) { config.EncodeTime = zapcore.RFC3339NanoTimeEncoder }
	encoder := zap.JSONEncoder(readableTime)
	if options.LogFormat == "console" {
		encoder = zap.ConsoleEncoder(readableTime)
	}
	logger := zap.New(encoder, zap.Level(level), zap.StacktraceLevel(zapcore.PanicLevel))
	log.SetLogger(logger)
	klog.SetLogger(logger)
}

func restConfig(options Options, version string) (*rest.Config, error) {
	var config *rest.Config
	var err error
	if options.Kubeconfig != "" {
		config, err = clientcmd.BuildConfigFromFlags("", options.Kubeconfig)
	} else {
		config, err = controllerruntime.GetConfig()
	}
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig, %w", err)
	}
	config.QPS, config.Burst = options.KubeAPIQPS, options.KubeAPIBurst
	config.UserAgent = "autorepair-controller/" + version
	return config, nil
}

func newManager(config *rest.Config, options Options) (manager.Manager, error) {
	// The lease must not wait behind a storm of other requests.
	leaderConfig := rest.CopyConfig(config)
	leaderConfig.QPS, leaderConfig.Burst = 0, 0
	m, err := controllerruntime.NewManager(config, manager.Options{
		Scheme:                        scheme.New(),
		Cache:                         cacheOptions(),
		Client:                        client.Options{Cache: &client.CacheOptions{}},
		Metrics:                       metricsserver.Options{BindAddress: "0"}, // it would serve Karpenter's series too
		HealthProbeBindAddress:        options.HealthProbeBindAddress,
		LeaderElection:                options.LeaderElect,
		LeaderElectionID:              v1alpha1.LeaseName,
		LeaderElectionNamespace:       options.LeaderElectionNamespace,
		LeaderElectionConfig:          leaderConfig,
		LeaderElectionReleaseOnCancel: true,
		BaseContext: func() context.Context {
			return snapshot.WithKarpenterOptions(log.IntoContext(context.Background(), log.Log))
		},
	})
	if err != nil {
		return nil, fmt.Errorf("making the manager, %w", err)
	}
	return m, nil
}

// addServers adds the health checks and the metrics endpoint.
func addServers(m manager.Manager, options Options, series *metrics.Metrics) error {
	if err := m.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("adding the health check, %w", err)
	}
	synced := func(req *http.Request) error {
		ctx, cancel := context.WithTimeout(req.Context(), time.Second)
		defer cancel()
		if !m.GetCache().WaitForCacheSync(ctx) {
			return errors.New("the cache is not filled yet")
		}
		return nil
	}
	if err := m.AddReadyzCheck("cache", synced); err != nil {
		return fmt.Errorf("adding the readiness check, %w", err)
	}
	return addMetrics(m, options, series.Handler(crmetrics.Registry))
}
