package v1alpha1

import corev1 "k8s.io/api/core/v1"

// Annotations that people write.
const (
	// RepairRequestAnnotation on a Node or NodeClaim asks for a repair now. Its value is an Action:
	// Replace or Reboot. It is removed when the repair is done.
	RepairRequestAnnotation = Group + "/repair"
	// PauseAnnotation on a NodePool lets no repair of its nodes start, and lets go those that can be. Its value is
	// "true", or the time (RFC 3339) until which it holds.
	PauseAnnotation = Group + "/pause"
	// VetoAnnotation on a Node keeps it from being repaired by us: "true", or the time (RFC 3339) until which it holds.
	// Beside karpenter.sh/do-not-repair, which is a veto too, the time is that of both, and both are removed from the
	// Node when it has come, since Karpenter knows no end. On a Node that our guard or fence has marked with
	// karpenter.sh/do-not-repair only this one can be told from ours.
	VetoAnnotation = Group + "/do-not-repair"
	// ResumeModeAnnotation on a RepairPolicy that kubectl autorepair has paused holds the mode that it had before, to which
	// it is resumed.
	ResumeModeAnnotation = Group + "/resume-mode"
)

// Names by which the controller can be told from outside.
const (
	// LeaseName is the lease of its leader election, by which can be told whether it runs; Karpenter has its own.
	LeaseName = "autorepair-controller"
	// ConditionsManager is the field manager by which it writes our conditions on NodeClaims.
	ConditionsManager = Group + "/conditions"
)

// Annotations, labels and taints that the executor writes.
const (
	// FenceOwnerAnnotation on a Node holds the UID of the NodeRepair that fenced it.
	FenceOwnerAnnotation = Group + "/fenced-by"
	// FenceRestoreAnnotation on a Node holds, as JSON, the values that the annotations changed by the fence
	// had before it (null where there was none).
	FenceRestoreAnnotation = Group + "/fence-restore"
	// NodeRepairLabel on a replacement NodeClaim (and the Node registered from it) names its NodeRepair.
	NodeRepairLabel = Group + "/noderepair"
	// NodePoolLabel and NodeClaimLabel on a NodeRepair name what it repairs.
	NodePoolLabel  = Group + "/nodepool"
	NodeClaimLabel = Group + "/nodeclaim"
	// GuardedAnnotation on a Node says that karpenter.sh/do-not-repair there is ours: it keeps Karpenter's own repair
	// off a node with a Fatal finding, and is no veto.
	GuardedAnnotation = Group + "/guarded"
	// RebootsAnnotation on a NodeClaim holds when reboots were asked for inside Karpenter, where no NodeRepair tells it:
	// times (RFC 3339) with commas between, oldest first, at most MaxReboots of them.
	RebootsAnnotation = Group + "/reboots"
	// UnhealthyTaintKey is the key of UnhealthyTaint.
	UnhealthyTaintKey = Group + "/unhealthy"
)

// MaxReboots are kept in RebootsAnnotation; a RepairPolicy allows no more.
const MaxReboots = 10

// UnhealthyTaint keeps new pods off a node that is being repaired. Karpenter leaves foreign taints alone.
var UnhealthyTaint = corev1.Taint{Key: UnhealthyTaintKey, Effect: corev1.TaintEffectNoSchedule}

// Conditions on a NodeClaim that explain; those that state facts are named by health.Category.
const (
	// ConditionUnhealthy is the verdict: present and True once a policy's toleration has passed.
	ConditionUnhealthy = Group + "/Unhealthy"
	// ConditionRepairBlocked is present and True while something stands between a fault and its repair.
	ConditionRepairBlocked = Group + "/RepairBlocked"
	// ConditionRepairing is present while a NodeRepair is at work on the NodeClaim; its reason is the phase.
	ConditionRepairing = Group + "/Repairing"
)
