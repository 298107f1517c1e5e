package rules_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/rules"
)

// always are the codes after which no work goes on, whatever else the line says.
var always = []int{46, 48, 54, 62, 64, 74, 79, 95, 109, 110, 119, 120, 136, 140, 142, 143, 151, 155, 156, 158}

func TestEachXIDCodeHasItsReason(t *testing.T) {
	isAlways := map[int]bool{}
	for _, code := range always {
		isAlways[code] = true
	}
	wordings := map[string]wording{}
	for code := 1; code <= 400; code++ {
		w := wording{wantReason: fmt.Sprintf("NvidiaXID%dWarning", code), wantSeverity: warning, wantSubject: "0000:01:00"}
		if isAlways[code] {
			w.wantReason, w.wantSeverity = fmt.Sprintf("NvidiaXID%dError", code), fatal
		}
		for form, line := range map[string]string{
			"with a process":     "NVRM: Xid (PCI:0000:01:00): %d, pid=2471, name=python3, Ch 00000008",
			"without a process":  "NVRM: Xid (PCI:0000:01:00): %d, some words",
			"without PCI":        "NVRM: Xid (0000:01:00): %d, Channel 00000001",
			"without a text":     "NVRM: Xid (PCI:0000:01:00): %d",
			"with a MIG device":  "NVRM: Xid (PCI:0000:01:00 GPU-I:05): %d, pid=2471, name=python3, Ch 00000008",
			"with MIG instances": "NVRM: Xid (PCI:0000:01:00 GI:05 CI:00): %d, pid=2471, name=python3, Ch 00000008",
		} {
			w.line = fmt.Sprintf(line, code)
			wordings[fmt.Sprintf("%d %s", code, form)] = w
		}
	}
	testWordings(t, health.StreamKmsg, wordings)
}

func TestXIDCodesThatTheirLineDecides(t *testing.T) {
	wordings := map[string]wording{
		"a GPU that has fallen off the bus, of a process that is gone": {
			line:       "[1234567.890123] NVRM: Xid (PCI:0000:01:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
			wantReason: "NvidiaXID79Error", wantSeverity: fatal, wantSubject: "0000:01:00",
		},
		"its echo without a code": {line: "NVRM: GPU 0000:01:00.0: GPU has fallen off the bus."},
		"the driver of the year 2012": {
			line: "NVRM: Xid (0000:03:00): 31, Ch 00000010, engmask 00000111, intr 10000000", wantReason: "NvidiaXID31Warning", wantSubject: "0000:03:00",
		},
		"bus and slot alone": {line: "NVRM: Xid (0003:00): 13, 0001 00000000 000050c0", wantReason: "NvidiaXID13Warning", wantSubject: "0003:00"},
		"a row remap on a MIG device": {
			line: "NVRM: Xid (PCI:0000:01:00 GPU-I:05): 63, pid=1896, name=nvidia-smi, Row Remapper: New row marked for remapping", wantReason: "NvidiaXID63Warning", wantSubject: "0000:01:00",
		},
		"a code that nobody knows":           {line: "NVRM: Xid (PCI:0000:01:00): 999, of times to come", wantReason: "NvidiaXID999Warning", wantSubject: "0000:01:00"},
		"a process that is called 79":        {line: "NVRM: Xid (PCI:0000:01:00): 43, pid=79, name=79, Ch 00000008", wantReason: "NvidiaXID43Warning", wantSubject: "0000:01:00"},
		"a channel that was ended over 149":  {line: "NVRM: Xid (PCI:0000:01:00): 45, pid=12, name=python3, Ch 00000008, errorString CTX SWITCH TIMEOUT, Info 0x2c015 (caused by previous Xid 149)", wantReason: "NvidiaXID45Warning", wantSubject: "0000:01:00"},
		"no number":                          {line: "NVRM: Xid (PCI:0000:01:00): abc, pid=2471"},
		"no address":                         {line: "NVRM: Xid : 32, pid=2471"},
		"which GPU has which UUID":           {line: "NVRM: GPU at PCI:0000:01:00: GPU-5ad1f2c8-9d4e-0d4b-6b0b-0d8b7d0f4a11"},
		"the serial number of the board":     {line: "NVRM: GPU Board Serial Number: 1322321043914"},
		"the driver loads":                   {line: "NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (dvs-builder@U22-I3-B03-03-1)"},
		"an adapter that does not start":     {line: "NVRM: GPU 0000:01:00.0: RmInitAdapter failed! (0x26:0x56:1463)"},
		"a program that writes to the log":   {line: "app: NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus."},
		"what is written by another program": {line: `audit: type=1400 audit(1700000000.1:2): apparmor="DENIED" comm="NVRM: Xid (PCI:0000:01:00): 79, x"`},
		"the recovery action is a reset": {
			line: "NVRM: Xid (PCI:0000:01:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)", wantReason: "NvidiaXID154Error", wantSeverity: fatal, wantSubject: "0000:01:00",
		},
		"the recovery action is a reset, in newer words": {
			line: "NVRM: Xid (PCI:0000:0d:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 (PF FLR)", wantReason: "NvidiaXID154Error", wantSeverity: fatal, wantSubject: "0000:0d:00",
		},
		"the recovery action is a reboot": {
			line: "NVRM: Xid (PCI:0000:01:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)", wantReason: "NvidiaXID154Error", wantSeverity: fatal, wantSubject: "0000:01:00",
		},
		"the recovery action is a reboot, in newer words": {
			line: "NVRM: Xid (PCI:0000:01:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 (OS Reboot)", wantReason: "NvidiaXID154Error", wantSeverity: fatal, wantSubject: "0000:01:00",
		},
		"the recovery action is a drain of P2P": {
			line: "NVRM: Xid (PCI:0000:01:00): 154, GPU recovery action changed from 0x0 (None) to 0x3 (Drain P2P)", wantReason: "NvidiaXID154Error", wantSeverity: fatal, wantSubject: "0000:01:00",
		},
		"the recovery action is a drain and a reset": {
			line: "NVRM: Xid (PCI:0000:01:00): 154, GPU recovery action changed from 0x1 (GPU Reset Required) to 0x4 (Drain and Reset)", wantReason: "NvidiaXID154Error", wantSeverity: fatal, wantSubject: "0000:01:00",
		},
		"no recovery action is asked for any more": {
			line: "NVRM: Xid (PCI:0000:01:00): 154, GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)", wantReason: "NvidiaXID154Error", wantRecovers: true, wantSubject: "0000:01:00",
		},
		"a recovery action of times to come": {
			line: "NVRM: Xid (PCI:0000:01:00): 154, GPU recovery action changed from 0x0 (None) to 0x7 (Call Home)", wantReason: "NvidiaXID154Warning", wantSubject: "0000:01:00",
		},
	}
	for code := 144; code <= 150; code++ {
		for form, line := range map[string]string{
			"fatal, with more blanks":     "NVRM: Xid (PCI:0009:01:00): %d, NETIR_LINK_EVT  Fatal   XC0 i0 Link 12 (0x021425c6 0x00000000)",
			"fatal, before R575":          "NVRM: Xid (PCI:0009:01:00): %d, NETIR_LINK_EVT Fatal XC 1 i 2 Link 01 [0x0000000a]",
			"fatal, with a process":       "NVRM: Xid (PCI:0009:01:00): %d, pid=2471, name=python3, RLW_CTRL Fatal XC0 i0 Link 02 (0x00000001)",
			"not fatal":                   "NVRM: Xid (PCI:0009:01:00): %d, NETIR_LINK_EVT  Nonfatal   XC0 i0 Link 12 (0x004505c6 0x00000000)",
			"not fatal, with a hyphen":    "NVRM: Xid (PCI:0009:01:00): %d, RLW_SRC_TRACK Non-Fatal XC0 i0 Link 12 (0x004505c6)",
			"not fatal, a process Fatal":  "NVRM: Xid (PCI:0009:01:00): %d, pid=2471, name=Fatal, RLW_CTRL Nonfatal XC0 i0 Link 02 (0x00000001)",
			"with no word on its gravity": "NVRM: Xid (PCI:0009:01:00): %d, NVLink: Link 12",
		} {
			w := wording{line: fmt.Sprintf(line, code), wantReason: fmt.Sprintf("NvidiaXID%dWarning", code), wantSeverity: warning, wantSubject: "0009:01:00"}
			if strings.HasPrefix(form, "fatal") {
				w.wantReason, w.wantSeverity = fmt.Sprintf("NvidiaXID%dError", code), fatal
			}
			wordings[fmt.Sprintf("%d %s", code, form)] = w
		}
	}
	testWordings(t, health.StreamKmsg, wordings)
}

func TestLinesOfNVSwitchesAndOfNCCL(t *testing.T) {
	testWordings(t, health.StreamKmsg, map[string]wording{
		"not fatal": {line: "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 28006, Non-fatal, Link 46 MC TS crumbstore MCTO (First)", wantReason: "NvidiaSXID28006Warning", wantSubject: "0000:c1:00.0"},
		"fatal":     {line: "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 30 LTSSM Fault Up", wantReason: "NvidiaSXID20034Error", wantSeverity: fatal, wantSubject: "0000:c1:00.0"},
		"fatal, with a code that is filled with zeros": {line: "nvidia-nvswitch0: SXid (PCI:0000:05:00.0): 00123, Fatal, Link 01", wantReason: "NvidiaSXID123Error", wantSeverity: fatal, wantSubject: "0000:05:00.0"},
		"without a colon after the switch":             {line: "nvidia-nvswitch1 SXid (PCI:0000:06:00.0): 20009, Non-fatal, Link 04 RX Short Error Rate", wantReason: "NvidiaSXID20009Warning", wantSubject: "0000:06:00.0"},
		"what goes on about the gravity":               {line: "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 28006, Severity 0 Engine instance 46 Sub-engine instance 00"},
		"what goes on with data":                       {line: "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 28006, Data {0x00140004, 0x00000100, 0x00000000}"},
		"no code":                                      {line: "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): garbled, Fatal"},
		"a switch is found":                            {line: "nvidia-nvswitch0: open (major=510)"},

		"NCCL, with CPU":              {line: "pt_main_thread[2536443]: segfault at 7f797fe00000 ip 00007f7c7ac69996 sp 00007f7c12fd7c30 error 4 in libnccl.so.2.10.3[7f7c7ac00000+d3d3000] likely on CPU 12 (core 12, socket 0)", wantReason: "NvidiaNCCLError", wantSubject: "pt_main_thread"},
		"NCCL, without CPU":           {line: "python3[77]: segfault at 10 ip 00007f7c7ac69996 sp 00007f7c12fd7c30 error 4 in libnccl.so.2[7f7c7ac00000+d3d3000]", wantReason: "NvidiaNCCLError", wantSubject: "python3"},
		"NCCL, with an offset":        {line: "python3[77]: segfault at 10 ip 00007f7c7ac69996 sp 00007f7c12fd7c30 error 4 in libnccl.so.2.18.3[69996,7f7c7ac00000+d3d3000]", wantReason: "NvidiaNCCLError", wantSubject: "python3"},
		"NCCL, a protection fault":    {line: "traps: python3[77] general protection fault ip:7f7c7ac69996 sp:7f7c12fd7c30 error:0 in libnccl.so.2.18.3[7f7c7ac00000+d3d3000]", wantReason: "NvidiaNCCLError", wantSubject: "python3"},
		"NCCL on arm64":               {line: "python3[77]: unhandled level 3 translation fault (11) at 0x00000010, esr 0x92000007, in libnccl.so.2.18.3[ffff8f200000+d3d3000]", wantReason: "NvidiaNCCLError", wantSubject: "python3"},
		"NCCL on arm64 since 4.19":    {line: "python3[77]: unhandled exception: DABT (lower EL), ESR 0x92000007, level 3 translation fault in libnccl.so.2.18.3[ffff8f200000+d3d3000]", wantReason: "NvidiaNCCLError", wantSubject: "python3"},
		"NCCL, a plugin of it":        {line: "python3[77]: segfault at 10 ip 00007f7c7ac69996 sp 00007f7c12fd7c30 error 4 in libnccl-net.so[7f7c7ac00000+d3d3000]", wantReason: "NvidiaNCCLError", wantSubject: "python3"},
		"a program called in libnccl": {line: "x in libnccl.so[77]: exited"},
	})
}

// A crash elsewhere stays with the rules for crashes.
func TestCrashOutsideOfNCCLIsNotOfNCCL(t *testing.T) {
	c := catalogue(t, rules.Custom{})
	for _, line := range []string{
		"python3[77]: segfault at 10 ip 00007f7c7ac69996 sp 00007f7c12fd7c30 error 4 in libtorch_cuda.so[7f7c7ac00000+d3d3000]",
		"x in libnccl.so[77]: segfault at 10 ip 00007f7c7ac69996 sp 00007f7c12fd7c30 error 4 in libc.so.6[7f7c7ac00000+d3d3000]",
	} {
		got, ok := c.Match(health.StreamKmsg, line)
		require.True(t, ok, line)
		require.Equal(t, health.ReasonAppCrash, got.Reason, line)
	}
}

func TestLinesOfNeuronDevices(t *testing.T) {
	const context = " instance-id=i-0123456789abcdef0 hostname=ip-10-0-1-17 nd-id=3 nc-id=1 serial-num=0a1b2c3d4e5f6071 action=TERMINATE_INSTANCE"
	testWordings(t, health.StreamKmsg, map[string]wording{
		"SRAM":                           {line: "NEURON_HW_ERR=SRAM_UNCORRECTABLE_ERROR" + context, wantReason: "NeuronSRAMUncorrectableError", wantSeverity: fatal, wantSubject: "neuron3"},
		"SRAM with a date":               {line: "neuron:ncdev_printk: 2024-05-14T09:12:44Z NEURON_HW_ERR=SRAM_UNCORRECTABLE_ERROR" + context, wantReason: "NeuronSRAMUncorrectableError", wantSeverity: fatal, wantSubject: "neuron3"},
		"HBM":                            {line: "neuron: NEURON_HW_ERR=HBM_UNCORRECTABLE_ERROR" + context, wantReason: "NeuronHBMUncorrectableError", wantSeverity: fatal, wantSubject: "neuron3"},
		"the engines":                    {line: "neuron0: NEURON_HW_ERR=NC_UNCORRECTABLE_ERROR" + context, wantReason: "NeuronNCUncorrectableError", wantSeverity: fatal, wantSubject: "neuron3"},
		"DMA":                            {line: "neuron: NEURON_HW_ERR=DMA_ERROR" + context, wantReason: "NeuronDMAError", wantSeverity: fatal, wantSubject: "neuron3"},
		"DMA, of a device without name":  {line: "NEURON_HW_ERR=DMA_ERROR affecting neuron devices", wantReason: "NeuronDMAError", wantSeverity: fatal, wantSubject: "neuron"},
		"a collective that hangs":        {line: "neuron: NEURON_HW_ERR=HANG_ON_COLLECTIVES" + context},
		"a longer word":                  {line: "neuron: NEURON_HW_ERR=DMA_ERROR_CORRECTED" + context},
		"the name of a file in an audit": {line: `audit: type=1400 audit(1700000000.123:45): apparmor="DENIED" operation="open" name="/tmp/NEURON_HW_ERR=DMA_ERROR" comm="sh"`},
		"the driver starts":              {line: "Neuron Driver Started with Version:2.16.7.0-abcdef"},
	})
}

func TestLinesOfAMDGPUs(t *testing.T) {
	testWordings(t, health.StreamKmsg, map[string]wording{
		"an error of the interface":              {line: "amdgpu 0000:03:00.0: amdgpu: uncorrectable hardware error(ERREVENT_ATHUB_INTERRUPT) detected!", wantReason: "AMDGPUUncorrectableError", wantSeverity: fatal, wantSubject: "0000:03:00.0"},
		"the same with the number of the event":  {line: "amdgpu 0000:15:00.0: {1}uncorrectable hardware error(ERREVENT_ATHUB_INTERRUPT) detected!", wantReason: "AMDGPUUncorrectableError", wantSeverity: fatal, wantSubject: "0000:15:00.0"},
		"the same of the newer driver":           {line: "amdgpu 0000:15:00.0: {12} Uncorrectable hardware error(ERREVENT_ATHUB_INTERRUPT) detected!", wantReason: "AMDGPUUncorrectableError", wantSeverity: fatal, wantSubject: "0000:15:00.0"},
		"the same before the driver named it":    {line: "amdgpu: uncorrectable hardware error(ERREVENT_ATHUB_INTERRUPT) detected!", wantReason: "AMDGPUUncorrectableError", wantSeverity: fatal},
		"errors of a block":                      {line: "amdgpu 0000:03:00.0: amdgpu: 2 uncorrectable hardware errors detected in gfx block", wantReason: "AMDGPUUncorrectableError", wantSeverity: fatal, wantSubject: "0000:03:00.0"},
		"errors of a block, by socket":           {line: "amdgpu 0000:03:00.0: amdgpu: socket: 0, die: 0 1 uncorrectable hardware errors detected in umc block", wantReason: "AMDGPUUncorrectableError", wantSeverity: fatal, wantSubject: "0000:03:00.0"},
		"new errors of a block":                  {line: "amdgpu 0000:03:00.0: amdgpu: {3} socket: 1, die: 0, 4 new uncorrectable hardware errors detected in umc block", wantReason: "AMDGPUUncorrectableError", wantSeverity: fatal, wantSubject: "0000:03:00.0"},
		"the total of them":                      {line: "amdgpu 0000:03:00.0: amdgpu: {3} socket: 1, die: 0, 9 uncorrectable hardware errors detected in total in umc block"},
		"no errors":                              {line: "amdgpu 0000:03:00.0: amdgpu: 0 uncorrectable hardware errors detected in umc block"},
		"no errors, in words":                    {line: "amdgpu 0000:03:00.0: amdgpu: no uncorrectable hardware errors detected in umc block"},
		"errors that were corrected":             {line: "amdgpu 0000:03:00.0: amdgpu: 3 correctable hardware errors detected in umc block"},
		"an interrupt that says nothing of them": {line: "amdgpu 0000:03:00.0: amdgpu: RAS controller interrupt triggered by NBIF error"},
		"a reset":                                {line: "amdgpu 0000:0b:00.0: amdgpu: GPU reset begin!", wantReason: "AMDGPUReset", wantSubject: "0000:0b:00.0"},
		"a reset of the older driver":            {line: "amdgpu 0000:0b:00.0: GPU reset begin!", wantReason: "AMDGPUReset", wantSubject: "0000:0b:00.0"},
		"a reset of the newer driver":            {line: "amdgpu 0000:0b:00.0: amdgpu: GPU reset begin!. Source:  1", wantReason: "AMDGPUReset", wantSubject: "0000:0b:00.0"},
		"the reset goes on":                      {line: "amdgpu 0000:0b:00.0: amdgpu: GPU reset succeeded, trying to resume"},
		"the reset has ended":                    {line: "amdgpu 0000:0b:00.0: amdgpu: GPU reset(2) succeeded!"},
		"memory has error correction":            {line: "amdgpu 0000:e3:00.0: amdgpu: MEM ECC is active."},
		"a ring that hangs":                      {line: "amdgpu 0000:0a:00.0: amdgpu: ring gfx_0.0.0 timeout, signaled seq=3295304, emitted seq=3295306"},
	})
}
