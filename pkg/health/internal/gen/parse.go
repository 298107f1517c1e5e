package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/samber/lo"
	"sigs.k8s.io/yaml"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health/notation"
)

type category struct {
	Name        string `json:"name"`
	Explanation string `json:"explanation"`
	Tolerate    string `json:"tolerate"`
	Threshold   string `json:"threshold"`
}

type entry struct {
	Name             string   `json:"name"`
	Pattern          string   `json:"pattern"`
	Example          string   `json:"example"`
	Category         string   `json:"category"`
	Severity         string   `json:"severity"`
	FatalFrom        string   `json:"fatalFrom"`
	Sources          []string `json:"sources"`
	Confirm          string   `json:"confirm"`
	Clears           string   `json:"clears"`
	Action           string   `json:"action"`
	RebootMayCure    bool     `json:"rebootMayCure"`
	OfNodeFilesystem bool     `json:"ofNodeFilesystem"`
	Explanation      string   `json:"explanation"`
	Remedy           string   `json:"remedy"`
	Threshold        string   `json:"threshold"`
	// Sample of a reason that no line makes; of the others it is that of the first line.
	Sample string `json:"sample"`
	Lines  []line `json:"lines"`
}

type reason struct {
	entry
	fatalFrom *notation.Confirm
	confirm   notation.Confirm
	clears    notation.Clears
}

// catalogue is what reasons.yaml says, once it has been checked.
type catalogue struct {
	categories []category
	reasons    []reason
}

// order of the categories. It is not taken from pkg/health, which does not compile before its generated file is there.
var order = []v1alpha1.Category{
	v1alpha1.CategoryKernel, v1alpha1.CategoryNetworking, v1alpha1.CategoryStorage, v1alpha1.CategoryContainerRuntime,
	v1alpha1.CategoryAcceleratedHardware, v1alpha1.CategoryKubelet, v1alpha1.CategoryInstance, v1alpha1.CategoryRequest,
}

// reasonName is the shape that the API asks of a finding's reason, less what a Go name cannot have.
var reasonName = regexp.MustCompile(`^[A-Z][A-Za-z0-9]{0,127}$`)

func parse(data []byte) (catalogue, error) {
	var file struct {
		Categories []category `json:"categories"`
		Reasons    []entry    `json:"reasons"`
	}
	if err := yaml.UnmarshalStrict(data, &file); err != nil {
		return catalogue{}, fmt.Errorf("decoding, %w", err)
	}
	out := catalogue{categories: file.Categories}
	errs := []error{checkCategories(file.Categories)}
	seen := map[string]bool{}
	for _, e := range file.Reasons {
		if seen[e.Name] {
			errs = append(errs, fmt.Errorf("reason %s stands there twice", e.Name))
		}
		seen[e.Name] = true
		r, err := e.reason(out)
		if err != nil {
			errs = append(errs, fmt.Errorf("reason %s: %w", e.Name, err))
		}
		out.reasons = append(out.reasons, r)
	}
	errs = append(errs, out.checkCountsToward())
	return out, errors.Join(errs...)
}

// checkCategories asks for exactly those of the API, so that none is forgotten.
func checkCategories(categories []category) error {
	want := lo.Map(order, func(c v1alpha1.Category, _ int) string { return string(c) })
	got := make([]string, 0, len(categories))
	var errs []error
	for _, c := range categories {
		got = append(got, c.Name)
		if c.Explanation == "" {
			errs = append(errs, fmt.Errorf("category %s: explanation must not be empty", c.Name))
		}
		if c.Tolerate == "" {
			continue
		}
		if d, err := time.ParseDuration(c.Tolerate); err != nil || d < time.Second || c.Threshold == "" {
			errs = append(errs, fmt.Errorf("category %s: tolerate %q: write a duration of at least 1s, and in threshold where it comes from", c.Name, c.Tolerate))
		}
	}
	if !slices.Equal(want, got) {
		errs = append(errs, fmt.Errorf("categories are %s: write %s", strings.Join(got, ", "), strings.Join(want, ", ")))
	}
	return errors.Join(errs...)
}

func (c catalogue) category(name string) (category, bool) {
	return lo.Find(c.categories, func(k category) bool { return k.Name == name })
}

func (e entry) reason(in catalogue) (reason, error) {
	r := reason{entry: e}
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	errs = append(errs, e.checkName())
	_, known := in.category(e.Category)
	check(known, "category %q is not among the categories", e.Category)
	check(slices.Contains([]string{"Fatal", "Warning"}, e.Severity), "severity %q: write Fatal or Warning", e.Severity)
	check(slices.Contains([]string{"Replace", "None"}, e.Action), "action %q: write Replace or None", e.Action)
	check(len(e.Sources) > 0, "sources: name at least one")
	for _, sentence := range []string{e.Explanation, e.Remedy} {
		check(strings.HasSuffix(sentence, "."), "explanation and remedy must be sentences, %q is none", sentence)
	}
	check(e.Threshold != "", "threshold must not be empty: say where the numbers come from")
	fatal := e.Severity == "Fatal" || e.FatalFrom != ""
	check(fatal == (e.Action == "Replace"), "action %s: a reason that can be Fatal is replaced, one that is only a Warning is not", e.Action)
	check(!e.RebootMayCure || fatal, "rebootMayCure: a reason that is never Fatal is not rebooted")
	var err error
	r.confirm, err = notation.ParseConfirm(e.Confirm)
	check(err == nil, "confirm: %w", err)
	r.clears, err = notation.ParseClears(e.Clears)
	check(err == nil, "clears: %w", err)
	if e.FatalFrom != "" {
		fatalFrom, err := notation.ParseConfirm(e.FatalFrom)
		check(err == nil, "fatalFrom: %w", err)
		r.fatalFrom = &fatalFrom
	}
	check(!e.OfNodeFilesystem || fatal, "ofNodeFilesystem: a reason that is never Fatal is the same on every filesystem")
	errs = append(errs, e.checkSample())
	for i, l := range e.Lines {
		if err := l.check(e); err != nil {
			errs = append(errs, fmt.Errorf("lines[%d]: %w", i, err))
		}
	}
	return r, errors.Join(errs...)
}

func (e entry) checkName() error {
	if e.Pattern == "" {
		if !reasonName.MatchString(e.Name) || e.Example != "" {
			return errors.New("name must be one word in CamelCase, and only a pattern has an example")
		}
		return nil
	}
	pattern, err := regexp.Compile(`\A(?:` + e.Pattern + `)\z`)
	if err != nil {
		return fmt.Errorf("pattern: %w", err)
	}
	if !pattern.MatchString(e.Example) {
		return fmt.Errorf("example %q does not match the pattern %s", e.Example, e.Pattern)
	}
	return nil
}
