package health

import "github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"

// Stream is where a log line comes from.
type Stream string

// Streams that have rules.
const (
	StreamKmsg       Stream = "kmsg"
	StreamKubelet    Stream = "kubelet"
	StreamContainerd Stream = "containerd"
	StreamSystemd    Stream = "systemd"
	StreamIPAMD      Stream = "ipamd"
	StreamKubeProxy  Stream = "kube-proxy"
)

// Streams lists the streams that have rules.
var Streams = []Stream{StreamKmsg, StreamKubelet, StreamContainerd, StreamSystemd, StreamIPAMD, StreamKubeProxy}

// Source is the name of the source that reads the stream, as a NodeHealth has it.
func (s Stream) Source() string {
	if s == StreamKmsg {
		return "kernel-log"
	}
	return string(s) + "-log"
}

// LineRule says that a log line means a reason. They stand in reasons.yaml below the reason that they are for.
type LineRule struct {
	// Reason of the finding; of a family, ${name} stands for what the group of that name matched.
	Reason string
	Stream Stream
	// Pattern is a regular expression (RE2) that is searched in the line, without the framing of its log. Of structured
	// logs (klog in text and JSON, logfmt, zap) the line is the message without quotes, followed by its fields as
	// key="value", with the value quoted as Go does.
	Pattern string
	// Subject of the finding; ${name} stands for what the group of that name matched. Empty: the node itself.
	Subject string
	// Severity in the place of the reason's; empty: the reason's.
	Severity v1alpha1.Severity
	// Recovers says that the line ends the finding.
	Recovers bool
	// CountsToward is a second reason that the line counts for without being it; it shows once that is confirmed.
	CountsToward string
	// Echo says that the event has another line that is counted: this one is told to people and counts for nothing.
	Echo bool
	// Sample is a line that the rule must match, CounterSample one that looks alike and that it must not.
	Sample        string
	CounterSample string
}
