package cli

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
)

func TestAMachineIsFoundByEitherName(t *testing.T) {
	fleet := &Fleet{
		Nodes: []corev1.Node{
			{ObjectMeta: metav1.ObjectMeta{Name: "ip-10-0-0-1"}, Spec: corev1.NodeSpec{ProviderID: "aws://1"}},
			{ObjectMeta: metav1.ObjectMeta{Name: "ip-10-0-0-2"}},
		},
		NodeClaims: []karpv1.NodeClaim{
			{ObjectMeta: metav1.ObjectMeta{Name: "default-abcde"}, Status: karpv1.NodeClaimStatus{ProviderID: "aws://1", NodeName: "ip-10-0-0-1"}},
		},
	}
	for name, test := range map[string]struct {
		name      string
		wantNode  string
		wantClaim string
		wantError string
	}{
		"by the name of the Node":                             {name: "ip-10-0-0-1", wantNode: "ip-10-0-0-1", wantClaim: "default-abcde"},
		"by the name of the NodeClaim":                        {name: "default-abcde", wantNode: "ip-10-0-0-1", wantClaim: "default-abcde"},
		"with the kind before it":                             {name: "nodeclaim/default-abcde", wantNode: "ip-10-0-0-1", wantClaim: "default-abcde"},
		"a Node that is not Karpenter's":                      {name: "ip-10-0-0-2", wantNode: "ip-10-0-0-2"},
		"an unknown name gets those that are near":            {name: "ip-10-0-0-3", wantError: `there is no Node or NodeClaim "ip-10-0-0-3": did you mean ip-10-0-0-1 or ip-10-0-0-2?`},
		"a part of a name gets those that have it":            {name: "abcd", wantError: `there is no Node or NodeClaim "abcd": did you mean default-abcde?`},
		"of another kind there may be none":                   {name: "node/default-abcde", wantError: `there is no Node "default-abcde" among 2`},
		"what is like nothing gets the number of those known": {name: "zzz", wantError: `there is no Node or NodeClaim "zzz" among 3`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := fleet.Find(test.name)
			if test.wantError != "" {
				require.EqualError(t, err, test.wantError)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.wantNode, got.NodeName())
			require.Equal(t, test.wantClaim != "", got.NodeClaim != nil)
			if got.NodeClaim != nil {
				require.Equal(t, test.wantClaim, got.NodeClaim.Name)
			}
		})
	}
}
