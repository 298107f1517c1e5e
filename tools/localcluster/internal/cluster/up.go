package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/credentials"
	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/install"
	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/ports"
	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/process"
	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/stages"
)

// freshTries is how often a fresh start takes other ports after losing one to
// somebody who was quicker.
const freshTries = 4

// Options of Up.
type Options struct {
	// Karpenter is how Karpenter is to run; nil keeps what runs, or starts the
	// stock one.
	Karpenter *KarpenterSettings
	// RealNode is wanted where it is not nil; one that there is stays.
	RealNode *RealNodeSettings
	// Nodes that Karpenter is to make, each for one pod; 0 asks for none.
	Nodes int
	// Audit are namespaces whose service accounts the API server is to note the requests of, beside those that it
	// does already.
	Audit []string
}

// Up brings the cluster to the wanted state, whatever state it is in: it starts
// a fresh one where there was none or a first start was broken off, starts
// again with its data what has died, and leaves alone what runs.
func (c *Cluster) Up(ctx context.Context, options Options) error {
	return c.exclusively(ctx, func() error {
		began := time.Now()
		if c.wantedNode(options) != nil {
			if err := c.node().Claim(); err != nil {
				return err
			}
		}
		how, err := c.ensure(ctx, options)
		if err != nil {
			return err
		}
		if options.Nodes > 0 {
			if err := c.makeNodes(ctx, options.Nodes); err != nil {
				return err
			}
		}
		c.Progress.Say("%s %s after %.1fs, kubeconfig %s", c.Directory, how, time.Since(began).Seconds(),
			c.adminKubeconfig())
		return nil
	})
}

func (c *Cluster) ensure(ctx context.Context, options Options) (string, error) {
	switch c.state.Phase {
	case phaseRunning:
		how, err := c.resume(ctx, options)
		if err == nil || ctx.Err() != nil || !errors.Is(err, errUnusable) {
			return how, err
		}
		c.Progress.Say("the old cluster cannot go on: %v; starting a new one in its place", err)
	case phaseStarting:
		c.Progress.Say("an earlier start was broken off, cleaning up")
	case phaseNone:
	}
	settings, realNode := c.wanted(options), c.wantedNode(options)
	if _, err := c.addAudited(options.Audit); err != nil {
		return "", err
	}
	// Built before anything runs, so that it does not compete with what starts.
	c.state.Karpenter = settings
	if err := c.buildAll(ctx); err != nil {
		return "", err
	}
	for try := 1; ; try++ {
		err := c.fresh(ctx, settings, realNode)
		if err == nil {
			return "is up", nil
		}
		// What does not come up must not stay behind.
		if endErr := errors.Join(c.removeNode(ctx), c.end(c.atOnce(ctx), parts...)); endErr != nil {
			return "", errors.Join(err, endErr)
		}
		if !errors.Is(err, errPortTaken) || try == freshTries {
			return "", err
		}
		c.Progress.Say("%v, trying with other ports", err)
	}
}

func (c *Cluster) wanted(options Options) KarpenterSettings {
	switch {
	case options.Karpenter != nil:
		return *options.Karpenter
	case c.state.Karpenter.Mode != "":
		return c.state.Karpenter
	default:
		return KarpenterSettings{Mode: KarpenterStock}
	}
}

// wantedNode is how the real node is to be, as a fresh cluster has none yet; nil where there is to be none.
func (c *Cluster) wantedNode(options Options) *RealNodeSettings {
	switch {
	case options.RealNode != nil:
		return &RealNodeSettings{Images: options.RealNode.Images}
	case c.state.RealNode != nil:
		return &RealNodeSettings{Images: c.state.RealNode.Images}
	}
	return nil
}

func (c *Cluster) wants(p part) bool {
	switch {
	case p.ofNode:
		return c.state.RealNode != nil
	case p.name == Karpenter:
		return c.state.Karpenter.Mode != KarpenterNone
	}
	return true
}

func (c *Cluster) wantedParts() []part {
	var wanted []part
	for _, p := range parts {
		if c.wants(p) {
			wanted = append(wanted, p)
		}
	}
	return wanted
}

func (c *Cluster) buildAll(ctx context.Context) error {
	for _, p := range c.wantedParts() {
		if _, err := c.binary(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// fresh starts a new cluster, and ends and forgets what was there.
func (c *Cluster) fresh(ctx context.Context, settings KarpenterSettings, realNode *RealNodeSettings) error {
	if err := c.removeNode(ctx); err != nil {
		return err
	}
	if err := c.end(c.atOnce(ctx), parts...); err != nil {
		return err
	}
	audit := c.state.Audit
	if err := c.discard(); err != nil {
		return err
	}
	if err := os.RemoveAll(c.logDirectory()); err != nil {
		return fmt.Errorf("removing old logs, %w", err)
	}
	boot, err := process.BootID()
	if err != nil {
		return err
	}
	c.state = state{Phase: phaseStarting, BootID: boot, Karpenter: settings, RealNode: realNode, Audit: audit, Ports: map[string]int{}}
	names := portNames()
	free, err := ports.Free(len(names))
	if err != nil {
		return err
	}
	for i, name := range names {
		c.state.Ports[name] = free[i]
	}
	if err := c.save(); err != nil {
		return err
	}
	kubeconfigs := map[string]string{credentials.Administrator: c.adminKubeconfig()}
	for _, name := range []string{ControllerManager, Scheduler, Kwok, Karpenter} {
		kubeconfigs[name] = c.credentials().Kubeconfig(name)
	}
	if err := c.credentials().Create(c.state.Ports[portAPIServer], kubeconfigs); err != nil {
		return err
	}
	if err := c.bringUp(ctx); err != nil {
		return err
	}
	c.state.Phase = phaseRunning
	return c.save()
}

// errUnusable says that the data or the ports of a cluster are lost, so that
// only a fresh one can take its place.
var errUnusable = errors.New("so its data or address is lost")

// resume makes a cluster that was complete once complete again.
func (c *Cluster) resume(ctx context.Context, options Options) (string, error) {
	boot, err := process.BootID()
	if err != nil {
		return "", err
	}
	if boot != c.state.BootID {
		// etcd does not wait for the disk: its data is good only until the machine goes down.
		return "", fmt.Errorf("the machine has rebooted, %w", errUnusable)
	}
	settings := c.wanted(options)
	changed := !settings.equal(c.state.Karpenter)
	c.state.Karpenter = settings
	if c.state.RealNode == nil {
		c.state.RealNode = options.RealNode
	}
	if err := c.buildAll(ctx); err != nil {
		return "", err
	}
	if changed {
		c.Progress.Say("Karpenter is to run otherwise than it does, ending it")
		karpenter, err := findPart(Karpenter)
		if err != nil {
			return "", err
		}
		if err := c.endAndSave(c.gently(ctx), karpenter); err != nil {
			return "", err
		}
	}
	if changed, err := c.addAudited(options.Audit); err != nil {
		return "", err
	} else if changed {
		c.Progress.Say("more is to be audited, ending the API server")
		if err := c.endAndSave(c.gently(ctx), parts[1]); err != nil {
			return "", err
		}
	}
	var dead []string
	for _, p := range c.wantedParts() {
		if !c.alive(p) {
			dead = append(dead, p.name)
		}
	}
	how := "is already up"
	if len(dead) > 0 {
		c.Progress.Say("starting %s again, with the data as it was", strings.Join(dead, ", "))
		how = "is up again"
	}
	if err := c.bringUp(ctx); err != nil {
		if errors.Is(err, errPortTaken) {
			return "", fmt.Errorf("%w, %w", err, errUnusable)
		}
		return "", err
	}
	return how, nil
}

// bringUp starts every wanted part that does not run and waits until all are
// ready and what Karpenter needs is installed.
func (c *Cluster) bringUp(ctx context.Context) error {
	if err := c.writeAuditPolicy(); err != nil {
		return err
	}
	step := c.Progress.Begin("control plane", "starting etcd and the API server")
	if err := c.startParts(ctx, Etcd, APIServer); err != nil {
		step.Failed()
		return err
	}
	if err := c.waitParts(ctx, Etcd, APIServer); err != nil {
		step.Failed()
		return err
	}
	step.Update("starting controllers, installing Karpenter's CRDs")
	if err := c.writeKwokConfiguration(); err != nil {
		step.Failed()
		return err
	}
	if err := c.startParts(ctx, ControllerManager, Scheduler, Kwok); err != nil {
		step.Failed()
		return err
	}
	client, err := install.NewClient(c.adminKubeconfig())
	if err != nil {
		step.Failed()
		return err
	}
	if err := client.CRDs(ctx); err != nil {
		step.Failed()
		return err
	}
	step.Done("ready at %s", c.url(parts[1]))

	if err := c.bringUpKarpenter(ctx, client); err != nil {
		return err
	}

	step = c.Progress.Begin("controllers", "waiting for them")
	if err := c.waitParts(ctx, ControllerManager, Scheduler, Kwok); err != nil {
		step.Failed()
		return err
	}
	if err := client.WaitServiceAccounts(ctx, karpenterNamespace, "default"); err != nil {
		step.Failed()
		return errors.Join(fmt.Errorf("waiting for the controller manager, %w", err), c.checkAlive(ControllerManager))
	}
	step.Done("ready")
	if err := c.bringUpNode(ctx, client); err != nil {
		return err
	}
	return c.checkAlive(PartNames()...)
}

func (c *Cluster) bringUpKarpenter(ctx context.Context, client *install.Client) error {
	if c.state.Karpenter.Mode == KarpenterNone {
		return client.RemoveKarpenterDeployment(ctx, karpenterNamespace)
	}
	step := c.Progress.Begin(Karpenter, "starting it")
	version, err := c.recordKarpenter(ctx, client)
	if err != nil {
		step.Failed()
		return err
	}
	if err := c.startParts(ctx, Karpenter); err != nil {
		step.Failed()
		return err
	}
	if err := c.waitParts(ctx, Karpenter); err != nil {
		step.Failed()
		return err
	}
	gates := c.state.Karpenter.FeatureGates
	if gates == "" {
		gates = "defaults"
	}
	step.Done("ready, %s, feature gates: %s", version, gates)
	return nil
}

func (c *Cluster) startParts(ctx context.Context, names ...string) error {
	for _, name := range names {
		p, err := findPart(name)
		if err != nil {
			return err
		}
		if c.alive(p) {
			continue
		}
		if err := c.start(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) waitParts(ctx context.Context, names ...string) error {
	for _, name := range names {
		p, err := findPart(name)
		if err != nil {
			return err
		}
		if err := c.waitReady(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// checkAlive finds a wanted part that has ended since it was started.
func (c *Cluster) checkAlive(names ...string) error {
	for _, name := range names {
		p, err := findPart(name)
		if err != nil {
			return err
		}
		if !c.wants(p) {
			continue
		}
		if !c.alive(p) {
			return c.endedEarly(p)
		}
	}
	return nil
}

func (c *Cluster) writeKwokConfiguration() error {
	text, err := stages.Configuration()
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.kwokConfiguration(), text, 0o600); err != nil {
		return fmt.Errorf("writing kwok's configuration, %w", err)
	}
	return nil
}
