package helm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autorepair-sh/karpenter-autorepair/test/suite"
)

func TestDefinitionsAreUpgradedAndGoWhereTheyAreNotToBeKept(t *testing.T) {
	suite.Need(t)
	needHelm(t)
	definition := func() (*apiextensionsv1.CustomResourceDefinition, error) {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		return crd, shared.Client.Get(t.Context(), client.ObjectKey{Name: "repairpauses.autorepair.sh"}, crd)
	}
	// As an older version of the chart would have it.
	old := filepath.Join(t.TempDir(), "autorepair-crd")
	require.NoError(t, os.CopyFS(old, os.DirFS(chart("autorepair-crd"))))
	file := filepath.Join(old, "files", "autorepair.sh_repairpauses.yaml")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(text), "- rpause\n")
	require.NoError(t, os.WriteFile(file, []byte(strings.ReplaceAll(string(text), "- rpause\n", "- oldpause\n")), 0o600))

	helm(t, "install", "autorepair-crd", old, "--create-namespace")
	crd, err := definition()
	require.NoError(t, err)
	require.Equal(t, []string{"oldpause"}, crd.Spec.Names.ShortNames)

	helm(t, "upgrade", "autorepair-crd", chart("autorepair-crd"), "--set=keep=false")
	upgraded, err := definition()
	require.NoError(t, err)
	require.Equal(t, []string{"rpause"}, upgraded.Spec.Names.ShortNames)
	require.Equal(t, crd.UID, upgraded.UID, "it is the same definition, with its objects")

	helm(t, "uninstall", "autorepair-crd", "--wait")
	_, err = definition()
	require.True(t, apierrors.IsNotFound(err), "%v", err)
}
