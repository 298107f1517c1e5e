package rights

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// discovery is what every user may ask for: which kinds the API server knows.
var discovery = []string{"/api", "/apis", "/version", "/openapi"}

// Outside gives the requests that the rights do not cover, and those that were forbidden for whatever reason, each
// once, in words.
func Outside(granted []Right, requests []Request) []string {
	found := map[string]bool{}
	for _, r := range requests {
		switch {
		case r.Unauthorized && !slices.ContainsFunc(r.wanted(), func(verb string) bool { return !covered(granted, r, verb) }):
			// An API server that has just started knows no roles yet, and refuses what they allow.
		case r.Code == http.StatusForbidden:
			found[r.words()+" was forbidden"] = true
		case r.URL != "" && slices.ContainsFunc(discovery, func(prefix string) bool { return strings.HasPrefix(r.URL, prefix) }):
		case !slices.ContainsFunc(r.wanted(), func(verb string) bool { return !covered(granted, r, verb) }):
		default:
			found[r.words()+" is in no role"] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// Unused gives the rights that no request needed.
func Unused(granted []Right, requests []Request) []Right {
	return slices.DeleteFunc(slices.Clone(granted), func(right Right) bool {
		return slices.ContainsFunc(requests, func(r Request) bool {
			return slices.ContainsFunc(r.used(), func(verb string) bool { return right.covers(r, verb) })
		})
	})
}

func covered(granted []Right, r Request, verb string) bool {
	return slices.ContainsFunc(granted, func(right Right) bool { return right.covers(r, verb) })
}

func (r Right) covers(request Request, verb string) bool {
	return r.Verb == verb && r.Group == request.Group && r.Resource == request.Resource && r.URL == request.URL &&
		(r.Name == "" || r.Name == request.Name) && (r.Namespace == "" || r.Namespace == request.Namespace)
}

// used are the verbs that the request shows to be needed. Who watches lists too, sooner or later: client-go's reflectors
// have the API server stream what there is, and list it where it does not.
func (r Request) used() []string {
	if r.Verb == "watch" {
		return []string{"watch", "list"}
	}
	return r.wanted()
}

// wanted are the verbs that the request needs the right to. A server-side apply of what is not there is a patch, and
// needs the right to create too.
func (r Request) wanted() []string {
	if r.Verb == "patch" && r.Code == http.StatusCreated {
		return []string{"patch", "create"}
	}
	return []string{r.Verb}
}

func (r Request) words() string {
	what := Right{Verb: r.Verb, Group: r.Group, Resource: r.Resource, Name: r.Name, Namespace: r.Namespace, URL: r.URL}
	return fmt.Sprintf("%s of %s", what, r.User)
}
