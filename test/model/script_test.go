package model

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// script is one run of the model as data: what rapid draws, what a failure is recorded as, and what is replayed.
type script struct {
	// Why says what the script is kept for.
	Why   string `json:"why,omitempty"`
	Setup setup  `json:"setup"`
	Steps []step `json:"steps"`
}

// setup is the cluster at the beginning.
type setup struct {
	Pools  []pool `json:"pools"`
	Policy policy `json:"policy"`
	// Consolidate lets Karpenter consolidate.
	Consolidate bool `json:"consolidate,omitempty"`
}

type pool struct {
	Nodes int `json:"nodes"`
	// Pods is how many of the nodes, from the first, have pods.
	Pods   int    `json:"pods,omitempty"`
	Budget string `json:"budget"`
	Limit  int    `json:"limit,omitempty"`
	Static bool   `json:"static,omitempty"`
}

type policy struct {
	Tolerate       metav1.Duration  `json:"tolerate"`
	DrainBound     *metav1.Duration `json:"drainBound,omitempty"`
	VerifyFor      metav1.Duration  `json:"verifyFor"`
	Attempts       int32            `json:"attempts"`
	TerminateFirst bool             `json:"terminateFirst,omitempty"`
	MaxUnhealthy   string           `json:"maxUnhealthy,omitempty"`
}

// step is one thing that happens. Node counts through the Nodes that stand, by name, and begins anew at their end; -1 is
// the first that is fenced, or else sick. Pool likewise counts through the NodePools.
type step struct {
	Do   string           `json:"do"`
	Node int              `json:"node,omitempty"`
	Pool int              `json:"pool,omitempty"`
	To   string           `json:"to,omitempty"`
	For  *metav1.Duration `json:"for,omitempty"`
	// Writes is after how many more writes of our controller a crash or race comes.
	Writes int   `json:"writes,omitempty"`
	Lost   bool  `json:"lost,omitempty"`
	Then   *step `json:"then,omitempty"`
}

// run plays the script, and gives what promise was broken.
func (s script) run() (w *world, err error) {
	defer func() {
		if broken := recover(); broken != nil {
			v, ok := broken.(violation)
			if !ok {
				panic(broken)
			}
			err = fmt.Errorf("%s", v.message)
		}
	}()
	w = newWorld(s.Setup)
	w.pass(5 * time.Second)
	for _, st := range s.Steps {
		w.do(st)
		w.pass(500 * time.Millisecond)
	}
	w.comesToRest()
	return w, nil
}

// do does a step. What there is nothing for is not done.
func (w *world) do(s step) {
	if f, ok := onNode[s.Do]; ok {
		if node := w.nodeOf(s.Node); node != nil {
			f(w, node, s)
		}
		return
	}
	f, ok := anywhere[s.Do]
	if !ok {
		panic("there is no step " + s.Do)
	}
	f(w, s)
}

func (w *world) nodeOf(i int) *corev1.Node {
	nodes := all[corev1.Node](w.api.objects)
	if i >= 0 && len(nodes) > 0 {
		return nodes[i%len(nodes)]
	}
	if fenced, ok := lo.Find(nodes, func(n *corev1.Node) bool { return n.Annotations[v1alpha1.FenceOwnerAnnotation] != "" }); ok {
		return fenced
	}
	sick, _ := lo.Find(nodes, func(n *corev1.Node) bool {
		health := named[v1alpha1.NodeHealth](w.api.objects, n.Name)
		return health != nil && len(health.Findings) > 0
	})
	return sick
}

func (w *world) claimOf(node *corev1.Node) *karpv1.NodeClaim {
	claim, _ := lo.Find(all[karpv1.NodeClaim](w.api.objects), func(c *karpv1.NodeClaim) bool { return c.Status.NodeName == node.Name })
	return claim
}

func annotate(w *world, o client.Object, key, value string) {
	change(w.api, actorPeople, o, func(o client.Object) {
		annotations := lo.Assign(o.GetAnnotations())
		if annotations[key] = value; value == "" {
			delete(annotations, key)
		}
		o.SetAnnotations(annotations)
	})
}

// onNode are the steps that concern one node.
var onNode = map[string]func(*world, *corev1.Node, step){
	"sicken": func(w *world, n *corev1.Node, s step) { w.sicken(n.Name, s.To) },
	"heal":   func(w *world, n *corev1.Node, _ step) { w.heal(n.Name) },
	"blind": func(w *world, n *corev1.Node, _ step) {
		change(w.api, "agent", healthOf(n.Name), func(h *v1alpha1.NodeHealth) { h.Sources[0].State = v1alpha1.SourceUnavailable })
	},
	"see": func(w *world, n *corev1.Node, _ step) {
		change(w.api, "agent", healthOf(n.Name), func(h *v1alpha1.NodeHealth) { h.Sources[0].State = v1alpha1.SourceActive })
	},
	"veto": func(w *world, n *corev1.Node, _ step) { annotate(w, n, karpv1.DoNotRepairAnnotationKey, "true") },
	"keep": func(w *world, n *corev1.Node, s step) {
		annotate(w, n, v1alpha1.VetoAnnotation, w.until(s.For, "true"))
	},
	"unveto": func(w *world, n *corev1.Node, _ step) {
		annotate(w, n, karpv1.DoNotRepairAnnotationKey, "")
		annotate(w, n, v1alpha1.VetoAnnotation, "")
	},
	// A person protects a node, or no longer does. Nobody can tell a person's true from that of the fence, so that is not
	// written over one.
	"protect": func(w *world, n *corev1.Node, s step) {
		if s.To == "true" && n.Annotations[v1alpha1.FenceOwnerAnnotation] != "" {
			return
		}
		w.own[n.UID] = s.To
		annotate(w, n, karpv1.DoNotDisruptAnnotationKey, s.To)
	},
	"drift": func(w *world, n *corev1.Node, _ step) {
		if claim := w.claimOf(n); claim != nil {
			change(w.api, actorKarpenter, claim, func(c *karpv1.NodeClaim) { set(c, w.now(), karpv1.ConditionTypeDrifted) })
		}
	},
	"expire": func(w *world, n *corev1.Node, _ step) {
		if claim := w.claimOf(n); claim != nil {
			_ = w.api.delete(actorKarpenter, claim, metav1.Preconditions{})
		}
	},
	"delete": func(w *world, n *corev1.Node, _ step) {
		if claim := w.claimOf(n); claim != nil {
			_ = w.api.delete(actorPeople, claim, metav1.Preconditions{})
		}
	},
}

// anywhere are the other steps.
var anywhere map[string]func(*world, step)

// A step may do others, which are looked up here.
func init() {
	anywhere = map[string]func(*world, step){
		"pass": func(w *world, s step) { w.pass(s.For.Duration) },
		// Everything in a zone, or everywhere, turns sick at once, and what comes up is sick too until it is calm again.
		"wave": func(w *world, s step) {
			w.karpenter.newSick = true
			for _, n := range all[corev1.Node](w.api.objects) {
				if s.To == "" || n.Labels[corev1.LabelTopologyZone] == s.To {
					w.sicken(n.Name, "notready")
				}
			}
		},
		"calm": func(w *world, s step) {
			w.karpenter.newSick = false
			if s.To == "heal" {
				for _, n := range all[corev1.Node](w.api.objects) {
					w.heal(n.Name)
				}
			}
		},
		// The template of the NodePools changes: all nodes drift.
		"template": func(w *world, _ step) {
			for _, claim := range all[karpv1.NodeClaim](w.api.objects) {
				change(w.api, actorKarpenter, claim, func(c *karpv1.NodeClaim) { set(c, w.now(), karpv1.ConditionTypeDrifted) })
			}
		},
		"launch":     func(w *world, s step) { w.karpenter.launch = s.To },
		"initialize": func(w *world, s step) { w.karpenter.initialize = s.To },
		// A pause ends by itself after a time, where there is one.
		"mode": func(w *world, s step) {
			w.edit(func(p *v1alpha1.RepairPolicy) {
				p.Spec.Mode, p.Spec.PausedUntil = v1alpha1.Mode(s.To), w.until(s.For, "")
			})
		},
		"pause": func(w *world, s step) {
			pause := &v1alpha1.RepairPause{ObjectMeta: metav1.ObjectMeta{Name: "pause-" + w.until(s.For, "open")}}
			pause.Name = strings.ReplaceAll(strings.ToLower(pause.Name), ":", "-")
			pause.Spec.Until = w.until(s.For, "")
			_ = w.api.create(actorPeople, pause)
		},
		"unpause": func(w *world, _ step) {
			for _, pause := range all[v1alpha1.RepairPause](w.api.objects) {
				_ = w.api.delete(actorPeople, pause, metav1.Preconditions{})
			}
		},
		"pausePool": func(w *world, s step) {
			w.editPool(s.Pool, func(p *karpv1.NodePool) {
				p.Annotations = map[string]string{v1alpha1.PauseAnnotation: w.until(s.For, "true")}
			})
		},
		"unpausePool": func(w *world, s step) {
			w.editPool(s.Pool, func(p *karpv1.NodePool) { p.Annotations = nil })
		},
		"tolerate": func(w *world, s step) {
			w.edit(func(p *v1alpha1.RepairPolicy) { p.Spec.Rules[0].Tolerate = *s.For })
		},
		"drainBound": func(w *world, s step) { w.edit(func(p *v1alpha1.RepairPolicy) { p.Spec.Rules[0].DrainBound = s.For }) },
		"strategy": func(w *world, s step) {
			w.edit(func(p *v1alpha1.RepairPolicy) { p.Spec.Replacement.Strategy = v1alpha1.Strategy(s.To) })
		},
		// A second policy of equal weight blocks the first.
		"conflict": func(w *world, s step) {
			other := policyOf(w.setup.Policy)
			other.Name = "other"
			if s.To == "on" {
				_ = w.api.create(actorPeople, other)
			} else {
				_ = w.api.delete(actorPeople, other, metav1.Preconditions{})
			}
		},
		"budget": func(w *world, s step) {
			w.editPool(s.Pool, func(p *karpv1.NodePool) { p.Spec.Disruption.Budgets = budgetsOf(s.To) })
		},
		"pdb": func(w *world, s step) {
			for _, budget := range all[policyv1.PodDisruptionBudget](w.api.objects) {
				change(w.api, "disruption", budget, func(b *policyv1.PodDisruptionBudget) {
					b.Status.DisruptionsAllowed = lo.Ternary(s.To == "on", int32(0), 100)
				})
			}
		},
		"clock": func(w *world, s step) {
			w.ours.off += s.For.Duration
			w.steppedAt = w.now()
		},
		"crash":     func(w *world, s step) { w.crashIn, w.answerLost = s.Writes, s.Lost },
		"karpenter": func(w *world, _ step) { w.karpenter.crash() },
		"lag": func(w *world, s step) {
			if !w.process.dead {
				w.process.lag(s.For.Duration)
			}
		},
		"race": func(w *world, s step) { w.races = append(w.races, &race{in: max(s.Writes, 1), then: *s.Then}) },
	}
}

// until is when what is said now ends; otherwise stands for no end.
func (w *world) until(d *metav1.Duration, otherwise string) string {
	if d == nil {
		return otherwise
	}
	return w.now().Add(d.Duration).Format(time.RFC3339)
}

func (w *world) edit(how func(*v1alpha1.RepairPolicy)) {
	if main := named[v1alpha1.RepairPolicy](w.api.objects, "main"); main != nil {
		change(w.api, actorPeople, main, func(p *v1alpha1.RepairPolicy) {
			how(p)
			p.Generation++
		})
	}
}

func (w *world) editPool(i int, how func(*karpv1.NodePool)) {
	pools := all[karpv1.NodePool](w.api.objects)
	change(w.api, actorPeople, pools[i%len(pools)], how)
}

// failedFile is where a failing script is written, each shorter one over the longer. It is replayed with the others
// until it is removed, or renamed to be kept.
const failedFile = "failed.yaml"

func (s script) record(dir string, why error) string {
	s.Why = why.Error()
	text, err := yaml.Marshal(s)
	if err != nil {
		return err.Error()
	}
	if err := os.WriteFile(filepath.Join(dir, failedFile), text, 0o600); err != nil {
		return err.Error()
	}
	return string(text)
}

// shortened leaves out every step without which a promise is broken all the same.
func (s script) shortened() script {
	for i := len(s.Steps) - 1; i >= 0; i-- {
		shorter := s
		shorter.Steps = slices.Delete(slices.Clone(s.Steps), i, i+1)
		if _, err := shorter.run(); err != nil {
			s = shorter
		}
	}
	return s
}

func read(path string) (script, error) {
	s := script{}
	text, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	return s, yaml.UnmarshalStrict(text, &s)
}
