package rights

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

func TestRequestsAreComparedWithRights(t *testing.T) {
	role := []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"get", "patch"}},
		{APIGroups: []string{""}, Resources: []string{"nodes/status"}, Verbs: []string{"patch"}},
		{APIGroups: []string{"autorepair.sh"}, Resources: []string{"nodehealths"}, Verbs: []string{"create", "patch"}},
		{APIGroups: []string{"apps"}, Resources: []string{"deployments"}, ResourceNames: []string{"a", "b"}, Verbs: []string{"get"}},
		{NonResourceURLs: []string{"/metrics"}, Verbs: []string{"get"}},
	}
	granted := append(expand(role, ""), expand([]rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get"}}}, "ours")...)
	const user = "system:serviceaccount:ours:it"
	for name, test := range map[string]struct {
		request Request
		outside string
		used    []string
	}{
		"a right that is there":                           {request: Request{Verb: "get", Resource: "nodes", Name: "n", Code: 200}, used: []string{"get nodes"}},
		"a right that an API server does not know of yet": {request: Request{Verb: "get", Resource: "nodes", Name: "n", Code: 403, Unauthorized: true}, used: []string{"get nodes"}},
		"a refusal by admission of what the roles allow":  {request: Request{Verb: "get", Resource: "nodes", Name: "n", Code: 403}, outside: "get nodes named n of " + user + " was forbidden", used: []string{"get nodes"}},
		"another verb":        {request: Request{Verb: "list", Resource: "nodes", Code: 200}, outside: "list nodes of " + user + " is in no role"},
		"another group":       {request: Request{Verb: "get", Group: "metrics.k8s.io", Resource: "nodes", Code: 200}, outside: "get nodes.metrics.k8s.io of " + user + " is in no role"},
		"a subresource":       {request: Request{Verb: "patch", Resource: "nodes/status", Code: 200}, used: []string{"patch nodes/status"}},
		"another subresource": {request: Request{Verb: "get", Resource: "nodes/proxy", Code: 200}, outside: "get nodes/proxy of " + user + " is in no role"},
		"an apply of what is there": {
			request: Request{Verb: "patch", Group: "autorepair.sh", Resource: "nodehealths", Code: 200}, used: []string{"patch nodehealths.autorepair.sh"},
		},
		"an apply of what is not there": {
			request: Request{Verb: "patch", Group: "autorepair.sh", Resource: "nodehealths", Code: 201},
			used:    []string{"create nodehealths.autorepair.sh", "patch nodehealths.autorepair.sh"},
		},
		"an apply that makes what may only be changed": {request: Request{Verb: "patch", Resource: "nodes", Code: 201}, outside: "patch nodes of " + user + " is in no role", used: []string{"patch nodes"}},
		"a name that is meant":                         {request: Request{Verb: "get", Group: "apps", Resource: "deployments", Name: "b", Code: 200}, used: []string{"get deployments.apps named b"}},
		"a name that is not":                           {request: Request{Verb: "get", Group: "apps", Resource: "deployments", Name: "c", Code: 200}, outside: "get deployments.apps named c of " + user + " is in no role"},
		"the right namespace":                          {request: Request{Verb: "get", Resource: "secrets", Namespace: "ours", Code: 200}, used: []string{"get secrets in ours"}},
		"another namespace":                            {request: Request{Verb: "get", Resource: "secrets", Namespace: "theirs", Code: 200}, outside: "get secrets in theirs of " + user + " is in no role"},
		"a forbidden answer to what a role lists":      {request: Request{Verb: "get", Resource: "nodes", Code: 403}, outside: "get nodes of " + user + " was forbidden", used: []string{"get nodes"}},
		"an answer that nothing is there":              {request: Request{Verb: "get", Resource: "nodes", Code: 404}, used: []string{"get nodes"}},
		"which kinds there are":                        {request: Request{Verb: "get", URL: "/apis/apps/v1", Code: 200}},
		"a path that is granted":                       {request: Request{Verb: "get", URL: "/metrics", Code: 200}, used: []string{"get /metrics"}},
		"a path that is not":                           {request: Request{Verb: "get", URL: "/logs", Code: 200}, outside: "get /logs of " + user + " is in no role"},
	} {
		t.Run(name, func(t *testing.T) {
			test.request.User = user
			var want []string
			if test.outside != "" {
				want = []string{test.outside}
			}
			require.Equal(t, want, Outside(granted, []Request{test.request}))
			unused := Unused(granted, []Request{test.request})
			require.Len(t, unused, len(granted)-len(test.used))
			for _, right := range unused {
				require.NotContains(t, test.used, right.String())
			}
		})
	}
}

func TestRightsAreFoundByTheBindingsThatNameTheAccount(t *testing.T) {
	account := client.ObjectKey{Namespace: "ours", Name: "it"}
	subjects := []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "ours", Name: "it"}}
	rules := func(resource string) []rbacv1.PolicyRule {
		return []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{resource}, Verbs: []string{"get"}}}
	}
	everywhere, here, theirs := &rbacv1.ClusterRole{Rules: rules("nodes")}, &rbacv1.Role{Rules: rules("secrets")}, &rbacv1.ClusterRole{Rules: rules("pods")}
	everywhere.Name, here.Name, here.Namespace, theirs.Name = "everywhere", "here", "ours", "theirs"
	one := &rbacv1.ClusterRoleBinding{Subjects: subjects, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "everywhere"}}
	two := &rbacv1.RoleBinding{Subjects: subjects, RoleRef: rbacv1.RoleRef{Kind: "Role", Name: "here"}}
	three := &rbacv1.RoleBinding{Subjects: subjects, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "everywhere"}}
	four := &rbacv1.ClusterRoleBinding{Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "theirs", Name: "it"}}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "theirs"}}
	one.Name, two.Name, two.Namespace, three.Name, three.Namespace, four.Name = "one", "two", "ours", "three", "other", "four"
	reader := fake.NewClientBuilder().WithObjects(everywhere, here, theirs, one, two, three, four).Build()

	granted, err := Granted(t.Context(), reader, account)
	require.NoError(t, err)
	var got []string
	for _, right := range granted {
		got = append(got, right.String())
	}
	require.Equal(t, []string{"get nodes", "get nodes in other", "get secrets in ours"}, got)
}

// sample of an audit log, shortened, with half a line that a killed API server left.
const sample = `{"kind":"Event","level":"Metadata","stage":"ResponseComplete","requestURI":"/apis?x=y","verb":"get","user":{"username":"a"},"userAgent":"us/1","responseStatus":{"code":200}}
{"kind":"Event","level":"Metadata","stage":"ResponseStar
{"kind":"Event","level":"Metadata","stage":"ResponseComplete","requestURI":"/apis/apps/v1/namespaces/n/deployments/d/status","verb":"patch","user":{"username":"a"},"userAgent":"us/1","objectRef":{"resource":"deployments","namespace":"n","name":"d","apiGroup":"apps","subresource":"status"},"responseStatus":{"code":403}}
`

func TestTheAuditLogIsRead(t *testing.T) {
	got, err := parse(strings.NewReader(sample))
	require.NoError(t, err)
	require.Equal(t, []Request{
		{User: "a", UserAgent: "us/1", Verb: "get", URL: "/apis", Code: 200},
		{User: "a", UserAgent: "us/1", Verb: "patch", Group: "apps", Resource: "deployments/status", Namespace: "n", Name: "d", Code: 403},
	}, got)
}

func FuzzParse(f *testing.F) {
	f.Add(sample)
	f.Add(`{"verb":"get","objectRef":null}`)
	f.Add(`{"verb":1}`)
	f.Fuzz(func(t *testing.T, text string) {
		requests, err := parse(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, r := range requests {
			if r.Verb == "" {
				t.Fatalf("a request without a verb: %+v", r)
			}
		}
	})
}
