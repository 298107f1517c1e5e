// Command controller-aws tells the cluster what only AWS knows: impaired instances and volumes, scheduled maintenance,
// and zones that are being evacuated. It runs beside the controller, which needs no credentials of any cloud.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	controllerruntime "sigs.k8s.io/controller-runtime"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector/ec2"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/version"
)

func main() {
	if err := newCommand().ExecuteContext(controllerruntime.SetupSignalHandler()); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	o := options{}
	command := &cobra.Command{
		Use:   "controller-aws",
		Short: "Tell the cluster what only AWS knows of its nodes",
		Long: "controller-aws asks EC2 for instances whose status checks fail, for impaired EBS volumes and for scheduled maintenance,\n" +
			"and writes them into the NodeHealths of our nodes. With --cluster-arn it also holds repairs in zones that the cluster\n" +
			"is being shifted away from (ARC zonal shift). Region and credentials are those of the AWS SDK: environment, IRSA,\n" +
			"EKS Pod Identity or the instance's own role. It only reads; \"controller-aws iam-policy\" prints what it has to be allowed.",
		Version:       version.String(),
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(command *cobra.Command, _ []string) error {
			return run(command.Context(), o, command.Version)
		},
	}
	o.addFlags(command.Flags())
	command.AddCommand(newPolicyCommand())
	return command
}

func newPolicyCommand() *cobra.Command {
	var clusterARN string
	command := &cobra.Command{
		Use:   "iam-policy",
		Short: "Print the IAM policy for the role of controller-aws",
		Example: "  controller-aws iam-policy --cluster-arn arn:aws:eks:us-west-2:111122223333:cluster/mine > policy.json\n" +
			"  aws iam create-policy --policy-name autorepair --policy-document file://policy.json",
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			policy, err := ec2.Policy(clusterARN)
			if err != nil {
				return err //nolint:wrapcheck // says all there is to say
			}
			_, err = command.OutOrStdout().Write(policy)
			return err //nolint:wrapcheck // says all there is to say
		},
	}
	command.Flags().StringVar(&clusterARN, "cluster-arn", "", "ARN of the EKS cluster; empty for every cluster of the account")
	return command
}
