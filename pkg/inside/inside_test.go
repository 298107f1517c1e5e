package inside

import (
	"context"
	"testing"

	"github.com/awslabs/operatorpkg/controller"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/karpenter/pkg/controllers/provisioning"
)

func TestAKarpenterWithoutItsPartsIsRefused(t *testing.T) {
	for name, controllers := range map[string][]controller.Controller{
		"nothing at all": nil,
		"no queue":       {&provisioning.Provisioner{}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := WithMethod(context.Background(), Karpenter{Controllers: controllers})
			require.ErrorContains(t, err, "no provisioner or no disruption queue")
		})
	}
}
