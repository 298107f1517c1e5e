package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/cluster"
)

func newUp(p *program) *cobra.Command {
	var nodes int
	var audit []string
	var realNode bool
	var realNodeImages string
	settings := cluster.KarpenterSettings{}
	command := &cobra.Command{
		Use:   "up",
		Short: "Start the cluster, or what has died of it",
		Long: `up starts the cluster and returns once it is ready; the processes stay.

Where a cluster is up already it changes only what the flags ask for. Where parts of it
have died it starts them again with the data as it was. Where an earlier start was broken
off, or the machine has rebooted, it cleans up and starts a fresh cluster.

Without any --karpenter flag a cluster keeps the Karpenter it has; with one, all of them
are taken anew. After a new build of a --karpenter-binary use "localcluster restart karpenter".

With --nodes it applies the KWOKNodeClass and NodePool "default" and the Deployment
"default/inflate", whose pods of 3 CPUs each fill a node of 4. A node with the label
kwok.x-k8s.io/stage=unhealthy keeps the conditions that a test gives it; a pod with the
annotation pod-delete.stage.kwok.x-k8s.io/delay=20s takes that long to go.

With --real-node it makes a NodeClaim "real-node" and has a real kubelet with Debian's
containerd, runc and CNI bridge join as its Node. They see files, control groups and links
of their own in a mount namespace of their own; "down" removes them with all pods. A machine
can have one real node at a time. "make images" builds what it needs.`,
		Example: `  localcluster up
  localcluster up --nodes 300 --karpenter-feature-gates NodeRepair=true
  localcluster up --name bench --karpenter-binary bin/karpenter-autorepair
  localcluster up --name plain --karpenter=none
  localcluster up --name real --real-node`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if nodes < 0 {
				return errors.New("--nodes must not be negative, use 0 for none")
			}
			options := cluster.Options{Nodes: nodes, Audit: audit}
			if anyChanged(cmd, "karpenter", "karpenter-binary", "karpenter-feature-gates", "karpenter-env") {
				valid, err := settings.Validate()
				if err != nil {
					return err
				}
				options.Karpenter = &valid
			}
			if realNodeImages != "" && !realNode {
				return errors.New("--real-node-images says what a real node has, add --real-node or drop it")
			}
			if nodes > 0 && settings.Mode == cluster.KarpenterNone {
				return errors.New("--nodes needs Karpenter, which makes the nodes; use --karpenter=stock or drop --nodes")
			}
			target, err := p.cluster()
			if err != nil {
				return err
			}
			if realNode {
				valid, err := cluster.RealNodeSettings{Images: realNodeImages}.Validate(target.Repository)
				if err != nil {
					return err
				}
				options.RealNode = &valid
			}
			return target.Up(cmd.Context(), options)
		},
	}
	flags := command.Flags()
	flags.IntVar(&nodes, "nodes", 0, "have Karpenter make this many nodes, each for one pod, and wait until they are Ready")
	flags.StringSliceVar(&audit, "audit", nil, "namespaces whose service accounts' requests the API server notes in logs/audit.log of the cluster's directory, such as autorepair,default")
	flags.BoolVar(&realNode, "real-node", false, "add a node with a real kubelet and containerd on this machine, as root")
	flags.StringVar(&realNodeImages, "real-node-images", "", "directory of the OCI archives that it has in place of a registry, bin/images if not given")
	flags.StringVar((*string)(&settings.Mode), "karpenter", string(cluster.KarpenterStock), "stock or none (its CRDs alone)")
	flags.StringVar(&settings.Binary, "karpenter-binary", "", "run this build of Karpenter in place of the stock one")
	flags.StringVar(&settings.FeatureGates, "karpenter-feature-gates", "", "such as NodeRepair=true,StaticCapacity=true")
	flags.StringArrayVar(&settings.Env, "karpenter-env", nil, "a further variable for Karpenter, KEY=VALUE (repeatable)")
	return command
}

func anyChanged(cmd *cobra.Command, names ...string) bool {
	for _, name := range names {
		if cmd.Flags().Changed(name) {
			return true
		}
	}
	return false
}
