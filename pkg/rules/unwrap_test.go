package rules_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/rules"
)

func TestUnwrap(t *testing.T) {
	for name, tc := range map[string]struct {
		stream health.Stream
		line   string
		want   string
		other  bool // the line is of another program
	}{
		"a bare kernel line stays as it is":                {stream: health.StreamKmsg, line: "EXT4-fs error (device sda1): x", want: "EXT4-fs error (device sda1): x"},
		"dmesg's time is taken off":                        {stream: health.StreamKmsg, line: "[   12.345678] text", want: "text"},
		"and its caller":                                   {stream: health.StreamKmsg, line: "[   12.345678][    T1] text", want: "text"},
		"and its caller as a processor":                    {stream: health.StreamKmsg, line: "[   12.345678][   C12] text", want: "text"},
		"dmesg's date is taken off":                        {stream: health.StreamKmsg, line: "[Mon Nov 23 10:00:00 2026] text", want: "text"},
		"dmesg's short date is taken off":                  {stream: health.StreamKmsg, line: "[Nov23 10:00] text", want: "text"},
		"dmesg's difference is taken off":                  {stream: health.StreamKmsg, line: "[  +0.000012] text", want: "text"},
		"dmesg's ISO time is taken off":                    {stream: health.StreamKmsg, line: "2026-11-23T10:00:00,123456+00:00 text", want: "text"},
		"dmesg's facility and level are taken off":         {stream: health.StreamKmsg, line: "kern  :info  : [    0.000000] text", want: "text"},
		"dmesg's line of a program is none of the kernel":  {stream: health.StreamKmsg, line: "daemon:info  : [    0.000000] text", other: true},
		"a bracket of the text itself stays":               {stream: health.StreamKmsg, line: "[Hardware Error]: text", want: "[Hardware Error]: text"},
		"a bracket of the text after the time stays":       {stream: health.StreamKmsg, line: "[    1.000000] [drm] text", want: "[drm] text"},
		"a priority of the kernel is taken off":            {stream: health.StreamKmsg, line: "<6>text", want: "text"},
		"a priority and a time are taken off":              {stream: health.StreamKmsg, line: "<4>[    1.000000] text", want: "text"},
		"a priority of a program is none of the kernel":    {stream: health.StreamKmsg, line: "<30>text", other: true},
		"what only looks like a priority stays":            {stream: health.StreamKmsg, line: "<IRQ> text", want: "<IRQ> text"},
		"the journal's header is taken off":                {stream: health.StreamKmsg, line: "Nov 23 10:00:00 host kernel: text", want: "text"},
		"the journal's precise header is taken off":        {stream: health.StreamKmsg, line: "Nov 23 10:00:00.123456 host kernel: text", want: "text"},
		"a syslog header before dmesg's time is taken off": {stream: health.StreamKmsg, line: "Nov  3 10:00:00 host kernel: [   12.345678] text", want: "text"},
		"an ISO header is taken off":                       {stream: health.StreamKmsg, line: "2026-11-23T10:00:00.123456+00:00 host kernel: text", want: "text"},
		"RFC 5424 is taken off":                            {stream: health.StreamKmsg, line: `<6>1 2026-11-23T10:00:00Z host kernel - - [a b="c\]"] text`, want: "text"},
		"another program is none of the kernel":            {stream: health.StreamKmsg, line: "Nov 23 10:00:00 host sshd[12]: text", other: true},

		"klog's header is taken off":                {stream: health.StreamKubelet, line: "E1123 10:00:00.000000    1234 file.go:12] text", want: "text"},
		"klog's message loses its quotes":           {stream: health.StreamKubelet, line: `E1123 10:00:00.000000    1234 file.go:12] "Error \"x\"" err="a" pod="ns/p"`, want: `Error "x" err="a" pod="ns/p"`},
		"klog's JSON is the same as its text":       {stream: health.StreamKubelet, line: `{"ts":1700000000.1,"caller":"file.go:12","msg":"Error \"x\"","v":0,"pod":{"name":"p","namespace":"ns"},"err":"a"}`, want: `Error "x" err="a" pod="ns/p"`},
		"the journal before klog is taken off":      {stream: health.StreamKubelet, line: `Nov 23 10:00:00 host kubelet[1234]: E1123 10:00:00.000000    1234 file.go:12] "text"`, want: "text"},
		"systemd's word on the kubelet is another":  {stream: health.StreamKubelet, line: `Nov 23 10:00:00 host systemd[1]: Started kubelet.`, other: true},
		"the kernel's word is none of the kubelet":  {stream: health.StreamKubelet, line: `<6>text`, other: true},
		"the CRI's log is taken off":                {stream: health.StreamKubeProxy, line: `2026-11-23T10:00:00.123456789Z stderr F E1123 10:00:00.000000       1 file.go:12] "text" err="a"`, want: `text err="a"`},
		"Docker's log is taken off":                 {stream: health.StreamKubeProxy, line: `{"log":"E1123 10:00:00.000000       1 file.go:12] text\n","stream":"stderr","time":"2026-11-23T10:00:00Z"}`, want: `text`},
		"logfmt is taken off":                       {stream: health.StreamContainerd, line: `time="2026-11-23T10:00:00Z" level=error msg="a \"b\" failed, error" error="c \"d\"" id=7`, want: `a "b" failed, error error="c \"d\"" id=7`},
		"the journal before logfmt is taken off":    {stream: health.StreamContainerd, line: `Nov 23 10:00:00 host containerd[900]: time="2026-11-23T10:00:00Z" level=info msg=text`, want: "text"},
		"logfmt without message stays":              {stream: health.StreamContainerd, line: `level=info text`, want: "level=info text"},
		"containerd's JSON is the same as logfmt":   {stream: health.StreamContainerd, line: `{"error":"c","level":"error","msg":"a","time":"2026-11-23T10:00:00Z"}`, want: `a error="c"`},
		"zap's JSON is taken off":                   {stream: health.StreamIPAMD, line: `{"level":"error","ts":"2026-11-23T10:00:00.000Z","caller":"ipamd/ipamd.go:12","msg":"a: b"}`, want: "a: b"},
		"broken JSON stays":                         {stream: health.StreamIPAMD, line: `{"level":"error`, want: `{"level":"error`},
		"systemd's header is taken off":             {stream: health.StreamSystemd, line: "Nov 23 10:00:00 host systemd[1]: text", want: "text"},
		"a user's systemd is another":               {stream: health.StreamSystemd, line: "Nov 23 10:00:00 host systemd[1234]: text", other: true},
		"a bare line of systemd stays":              {stream: health.StreamSystemd, line: "kubelet.service: Failed with result 'exit-code'.", want: "kubelet.service: Failed with result 'exit-code'."},
		"an empty line stays":                       {stream: health.StreamSystemd, line: "", want: ""},
		"the end of a line of Windows is taken off": {stream: health.StreamSystemd, line: "text\r\n", want: "text"},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := rules.Unwrap(tc.stream, tc.line)
			require.Equal(t, !tc.other, ok)
			require.Equal(t, tc.want, got)
		})
	}
}

func TestUnwrapMessages(t *testing.T) {
	for name, tc := range map[string]struct {
		line       string
		wantStream health.Stream
		want       string
	}{
		"the kernel":                         {line: "Nov 23 10:00:00 host kernel: [   12.345678] text", wantStream: health.StreamKmsg, want: "text"},
		"the kubelet":                        {line: `Nov 23 10:00:00 host kubelet[1]: E1123 10:00:00.000000    1234 file.go:12] "text"`, wantStream: health.StreamKubelet, want: "text"},
		"containerd, with an ISO time":       {line: `2026-11-23T10:00:00+00:00 host containerd: time="x" level=error msg="text"`, wantStream: health.StreamContainerd, want: "text"},
		"systemd, in RFC 5424":               {line: "<30>1 2026-11-23T10:00:00Z host systemd 1 - - text", wantStream: health.StreamSystemd, want: "text"},
		"kube-proxy":                         {line: "Nov 23 10:00:00 host kube-proxy[7]: E1123 10:00:00.000000       7 p.go:1] text", wantStream: health.StreamKubeProxy, want: "text"},
		"the VPC CNI":                        {line: "Nov 23 10:00:00 host aws-node[7]: text", wantStream: health.StreamIPAMD, want: "text"},
		"another program means nothing":      {line: "Nov 23 10:00:00 host sshd[12]: kernel BUG at mm/slub.c:1!"},
		"a line without header neither":      {line: "kernel BUG at mm/slub.c:1!"},
		"nor a program that speaks of one":   {line: "Nov 23 10:00:00 host logger: kernel: kernel BUG at mm/slub.c:1!"},
		"nor one with the kernel's priority": {line: "<6>Nov 23 10:00:00 host kubelet: text"},
	} {
		t.Run(name, func(t *testing.T) {
			stream, text, ok := rules.UnwrapMessages(tc.line)
			require.Equal(t, tc.wantStream, stream)
			require.Equal(t, tc.want, text)
			require.Equal(t, tc.wantStream != "", ok)
		})
	}
}
