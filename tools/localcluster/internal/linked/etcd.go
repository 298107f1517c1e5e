package linked

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"
)

// etcdQuotaBytes is room for several thousand nodes and their history.
const etcdQuotaBytes = 4 << 30

func newEtcdCommand() *cobra.Command {
	var dataDir, clientURL string
	command := &cobra.Command{
		Use:           Etcd,
		Short:         "A single etcd that does not wait for the disk",
		SilenceUsage:  true,
		SilenceErrors: false,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runEtcd(cmd.Context(), dataDir, clientURL)
		},
	}
	command.Flags().StringVar(&dataDir, "data-dir", "", "where the data is kept")
	command.Flags().StringVar(&clientURL, "listen-client-url", "", "where clients are served")
	return command
}

func runEtcd(ctx context.Context, dataDir, clientURL string) error {
	const startTimeout = 30 * time.Second
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	client, err := url.Parse(clientURL)
	if err != nil {
		return fmt.Errorf("parsing --listen-client-url, %w", err)
	}
	// A member without peers needs a peer address all the same: any free one.
	peer := url.URL{Scheme: "http", Host: "127.0.0.1:0"}

	config := embed.NewConfig()
	config.Dir = dataDir
	config.ListenClientUrls = []url.URL{*client}
	config.AdvertiseClientUrls = config.ListenClientUrls
	config.ListenPeerUrls = []url.URL{peer}
	config.AdvertisePeerUrls = config.ListenPeerUrls
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.QuotaBackendBytes = etcdQuotaBytes
	config.LogLevel = "warn"
	// The data outlives a killed process, though not a crash of the machine.
	config.UnsafeNoFsync = true

	server, err := embed.StartEtcd(config)
	if err != nil {
		return fmt.Errorf("starting etcd, %w", err)
	}
	defer server.Close()
	select {
	case <-server.Server.ReadyNotify():
	case <-time.After(startTimeout):
		return errors.New("starting etcd, not ready in " + startTimeout.String())
	case err := <-server.Err():
		return fmt.Errorf("starting etcd, %w", err)
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-server.Err():
		return fmt.Errorf("serving etcd, %w", err)
	}
}
