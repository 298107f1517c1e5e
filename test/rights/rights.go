package rights

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Right to do one thing, as a rule of RBAC gives it.
type Right struct {
	Verb  string
	Group string
	// Resource with its subresource, as nodes/status.
	Resource string
	// Name of the one object that it is for; empty: all.
	Name string
	// Namespace that it holds in; empty: everywhere.
	Namespace string
	// URL that is no resource, in place of all that.
	URL string
}

func (r Right) String() string {
	if r.URL != "" {
		return r.Verb + " " + r.URL
	}
	text := r.Verb + " " + strings.TrimSuffix(r.Resource+"."+r.Group, ".")
	if r.Name != "" {
		text += " named " + r.Name
	}
	if r.Namespace != "" {
		text += " in " + r.Namespace
	}
	return text
}

// UserName is what the API server calls a ServiceAccount.
func UserName(account client.ObjectKey) string {
	return "system:serviceaccount:" + account.Namespace + ":" + account.Name
}

// Granted gives the rights of a ServiceAccount one by one, by all bindings that name it.
func Granted(ctx context.Context, reader client.Reader, account client.ObjectKey) ([]Right, error) {
	clusterBindings, bindings := &rbacv1.ClusterRoleBindingList{}, &rbacv1.RoleBindingList{}
	for _, list := range []client.ObjectList{clusterBindings, bindings} {
		if err := reader.List(ctx, list); err != nil {
			return nil, fmt.Errorf("listing role bindings, %w", err)
		}
	}
	var granted []Right
	for i := range clusterBindings.Items {
		b := &clusterBindings.Items[i]
		if !names(b.Subjects, account) {
			continue
		}
		rights, err := ofRole(ctx, reader, b.RoleRef, "")
		if err != nil {
			return nil, err
		}
		granted = append(granted, rights...)
	}
	for i := range bindings.Items {
		b := &bindings.Items[i]
		if !names(b.Subjects, account) {
			continue
		}
		rights, err := ofRole(ctx, reader, b.RoleRef, b.Namespace)
		if err != nil {
			return nil, err
		}
		granted = append(granted, rights...)
	}
	slices.SortFunc(granted, func(a, b Right) int { return cmp.Compare(a.String(), b.String()) })
	return granted, nil
}

func names(subjects []rbacv1.Subject, account client.ObjectKey) bool {
	return slices.ContainsFunc(subjects, func(s rbacv1.Subject) bool {
		return s.Kind == rbacv1.ServiceAccountKind && s.Name == account.Name && s.Namespace == account.Namespace
	})
}

func ofRole(ctx context.Context, reader client.Reader, ref rbacv1.RoleRef, namespace string) ([]Right, error) {
	if ref.Kind == "Role" {
		role := &rbacv1.Role{}
		if err := reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: ref.Name}, role); err != nil {
			return nil, fmt.Errorf("reading role, %w", err)
		}
		return expand(role.Rules, namespace), nil
	}
	role := &rbacv1.ClusterRole{}
	if err := reader.Get(ctx, client.ObjectKey{Name: ref.Name}, role); err != nil {
		return nil, fmt.Errorf("reading cluster role, %w", err)
	}
	return expand(role.Rules, namespace), nil
}

// expand makes of rules the rights one by one.
func expand(rules []rbacv1.PolicyRule, namespace string) []Right {
	var rights []Right
	for _, rule := range rules {
		names := rule.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, verb := range rule.Verbs {
			for _, url := range rule.NonResourceURLs {
				rights = append(rights, Right{Verb: verb, URL: url})
			}
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					for _, name := range names {
						rights = append(rights, Right{Verb: verb, Group: group, Resource: resource, Name: name, Namespace: namespace})
					}
				}
			}
		}
	}
	return rights
}
