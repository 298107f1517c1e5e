package chaos

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWritesAreToldApart(t *testing.T) {
	for name, test := range map[string]struct {
		method, path, body string
		// want is empty for what does not count.
		want string
	}{
		"a NodeRepair that is made":              {"POST", "/apis/autorepair.sh/v1alpha1/noderepairs?fieldManager=x", `{"metadata":{"name":"a-1"}}`, "POST noderepairs a-1"},
		"the phase of a NodeRepair":              {"PATCH", "/apis/autorepair.sh/v1alpha1/noderepairs/a-1/status", `{"status":{"phase":"Waiting"}}`, "PATCH noderepairs/status a-1 Waiting"},
		"a fence":                                {"PATCH", "/api/v1/nodes/n", `{"spec":{}}`, "PATCH nodes n"},
		"what a NodeClaim says of its repair":    {"PATCH", "/apis/karpenter.sh/v1/nodeclaims/a/status", `{"status":{"conditions":[{"type":"autorepair.sh/Repairing","reason":"Waiting"}]}}`, "PATCH nodeclaims/status a Repairing=Waiting"},
		"a body that is no JSON":                 {"PATCH", "/apis/karpenter.sh/v1/nodeclaims/a/status", "\x00k8s", "PATCH nodeclaims/status a"},
		"something in a namespace":               {"DELETE", "/api/v1/namespaces/x/pods/p", "", "DELETE pods p"},
		"a read does not count":                  {"GET", "/api/v1/nodes/n", "", ""},
		"a lease does not count":                 {"PUT", "/apis/coordination.k8s.io/v1/namespaces/x/leases/l", "{}", ""},
		"an event does not count":                {"POST", "/apis/events.k8s.io/v1/namespaces/x/events", "{}", ""},
		"a question about rights does not count": {"POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "{}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(test.method, test.path, strings.NewReader(test.body))
			require.Equal(t, test.want != "", changes(r))
			if test.want != "" {
				require.Equal(t, test.want, what(r, []byte(test.body)))
			}
		})
	}
}

func TestHinderedWritesPassAtLast(t *testing.T) {
	hinder := everyOther(always(conflict))
	one, other := write{What: "one"}, write{What: "other"}
	require.Equal(t, conflict, hinder(one))
	require.Equal(t, conflict, hinder(other), "attempts are counted by what is written")
	require.Equal(t, pass, hinder(one))
	require.Equal(t, pass, hinder(other))
	require.Equal(t, conflict, hinder(one))
}
