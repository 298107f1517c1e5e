package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

// container is what a runtime would make of the DaemonSet's container on this kernel: its user, capabilities and
// mounts. It lacks seccomp and the device cgroup, which take a runtime.
type container struct {
	Root         string
	Mounts       []bind
	Capabilities []string
	UID          int
	Groups       []int
	HostPID      bool
	Args         []string
}

type bind struct {
	Source, Target string
	ReadOnly       bool
}

// containerVariable tells the test's own program that it is to become the container.
const containerVariable = "AUTOREPAIR_TEST_CONTAINER"

// known capabilities; one that is not here the test does not know how to give.
var known = map[string]int{
	"SYSLOG": unix.CAP_SYSLOG, "NET_ADMIN": unix.CAP_NET_ADMIN, "DAC_READ_SEARCH": unix.CAP_DAC_READ_SEARCH, "SYS_PTRACE": unix.CAP_SYS_PTRACE,
	"SYS_ADMIN": unix.CAP_SYS_ADMIN,
}

func daemonSet(t *testing.T) *appsv1.DaemonSet {
	t.Helper()
	d := &appsv1.DaemonSet{}
	ofChart(t, "DaemonSet", d)
	return d
}

// ofChart gives the agent's object of that kind, as Helm renders it.
func ofChart(t *testing.T, kind string, into any) {
	t.Helper()
	rendered, err := cluster.RenderChart(t.Context())
	if errors.Is(err, cluster.ErrNoHelm) {
		t.Skip("SKIPPED: " + err.Error())
	}
	require.NoError(t, err)
	require.NoError(t, rendered.Into(kind, cluster.AgentServiceAccount.Name, into))
}

// containerOf reads the DaemonSet. substitutes stand for paths of the host that this computer does not have.
func containerOf(t *testing.T, d *appsv1.DaemonSet, substitutes map[string]string) container {
	t.Helper()
	pod := d.Spec.Template.Spec
	require.Len(t, pod.Containers, 1)
	from := pod.Containers[0]
	c := container{Root: t.TempDir(), HostPID: pod.HostPID, UID: int(*pod.SecurityContext.RunAsUser)}
	for _, group := range pod.SecurityContext.SupplementalGroups {
		c.Groups = append(c.Groups, int(group))
	}
	for _, capability := range from.SecurityContext.Capabilities.Add {
		require.Contains(t, known, string(capability))
		c.Capabilities = append(c.Capabilities, string(capability))
	}
	sources := map[string]string{}
	for _, volume := range pod.Volumes {
		sources[volume.Name] = volumeSource(t, volume, substitutes)
	}
	for _, m := range from.VolumeMounts {
		c.Mounts = append(c.Mounts, bind{Source: sources[m.Name], Target: m.MountPath, ReadOnly: m.ReadOnly})
	}
	agent, err := cluster.Binary("agent")
	require.NoError(t, err)
	c.Mounts = append(c.Mounts, bind{Source: agent, Target: "/agent", ReadOnly: true}, bind{Source: "/dev/null", Target: "/dev/null"})
	// The image: what the program is linked with.
	for _, library := range []string{"/lib", "/lib64", "/usr/lib"} {
		if _, err := os.Stat(library); err == nil {
			c.Mounts = append(c.Mounts, bind{Source: library, Target: library, ReadOnly: true})
		}
	}
	return c
}

func volumeSource(t *testing.T, volume corev1.Volume, substitutes map[string]string) string {
	t.Helper()
	switch {
	case volume.ConfigMap != nil:
		config := &corev1.ConfigMap{}
		ofChart(t, "ConfigMap", config)
		require.Equal(t, volume.ConfigMap.Name, config.Name)
		dir := t.TempDir()
		for name, text := range config.Data {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
		}
		return dir
	case volume.HostPath != nil:
		if substitute, ok := substitutes[volume.HostPath.Path]; ok {
			return substitute
		}
		if _, err := os.Stat(volume.HostPath.Path); err == nil && !strings.HasPrefix(volume.HostPath.Path, "/var/lib/") {
			return volume.HostPath.Path
		}
	}
	return t.TempDir() // empty, as DirectoryOrCreate makes it and an emptyDir is
}

// run gives what the program says on both outputs; it fails the test where the program fails.
func (c container) run(t *testing.T, args ...string) (stdout string) {
	t.Helper()
	c.Args = append([]string{"/agent"}, args...)
	text, err := json.Marshal(c)
	require.NoError(t, err)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{containerVariable + "=" + string(text)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	if !c.HostPID {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWPID
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	require.NoError(t, cmd.Run(), "%s\n%s", &out, &errs)
	return out.String()
}

// becomeContainer does not return where the test's program was started to be the container.
func becomeContainer() {
	text := os.Getenv(containerVariable)
	if text == "" {
		return
	}
	runtime.LockOSThread() // capabilities are a thread's
	var c container
	err := json.Unmarshal([]byte(text), &c)
	if err == nil {
		err = c.become()
	}
	fmt.Fprintln(os.Stderr, "becoming the container:", err)
	os.Exit(1)
}

func (c container) become() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keeping mounts to ourselves, %w", err)
	}
	if err := unix.Mount("tmpfs", c.Root, "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mounting the root, %w", err)
	}
	for _, m := range c.Mounts {
		if err := m.mount(c.Root); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(c.Root, "proc"), 0o555); err != nil {
		return err
	}
	if err := unix.Mount("proc", filepath.Join(c.Root, "proc"), "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc, %w", err)
	}
	if err := unix.Mount("", c.Root, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("making the root read-only, %w", err)
	}
	if err := unix.PivotRoot(c.Root, c.Root); err != nil {
		// Where the root of this computer is no mount, as in an initial RAM disk.
		if err := unix.Chroot(c.Root); err != nil {
			return fmt.Errorf("entering the root, %w", err)
		}
	} else if err := unix.Unmount("/", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leaving the old root, %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return c.drop()
}

// drop gives up all capabilities but those of the container, and runs its program.
func (c container) drop() error {
	if err := syscall.Setgroups(c.Groups); err != nil {
		return fmt.Errorf("setting groups, %w", err)
	}
	kept := map[int]bool{}
	for _, capability := range c.Capabilities {
		kept[known[capability]] = true
	}
	for capability := 0; capability <= unix.CAP_LAST_CAP; capability++ {
		if kept[capability] {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(capability), 0, 0, 0); err != nil && err != unix.EINVAL {
			return fmt.Errorf("dropping capability %d, %w", capability, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("setting no_new_privs, %w", err)
	}
	if c.UID != os.Getuid() {
		return fmt.Errorf("the user is %d: this test knows no other than root", c.UID)
	}
	// Of a program that root starts the kernel gives what the bounding set holds.
	return unix.Exec(c.Args[0], c.Args, []string{"GOMEMLIMIT=48MiB"})
}

func (m bind) mount(root string) error {
	target := filepath.Join(root, m.Target)
	info, err := os.Stat(m.Source)
	if err != nil {
		return fmt.Errorf("finding what to mount, %w", err)
	}
	if info.IsDir() {
		err = os.MkdirAll(target, 0o755)
	} else if err = os.MkdirAll(filepath.Dir(target), 0o755); err == nil {
		err = os.WriteFile(target, nil, 0o600)
	}
	if err != nil {
		return fmt.Errorf("making the place of a mount, %w", err)
	}
	if err := unix.Mount(m.Source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mounting %s, %w", m.Source, err)
	}
	if !m.ReadOnly {
		return nil
	}
	if err := unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("making %s read-only, %w", m.Target, err)
	}
	return nil
}
