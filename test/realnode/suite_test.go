// Package realnode installs the release with Helm on a node with a real kubelet and containerd, and breaks a card of the
// machine: what the pods may not do on a real kernel is found here.
package realnode

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/suite"
)

const (
	// card counts as a network card of the node; peer is its other end, other is a link of no concern.
	card, peer  = "arcard0", "arcard1"
	other, away = "arlink0", "arlink1"
)

// shared is the cluster; nil where there is none.
var shared *cluster.Cluster

func TestMain(m *testing.M) {
	flag.Parse()
	if missing() != "" {
		os.Exit(m.Run()) // each test skips, and says so
	}
	before, err := traces()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := suite.Run(m, cluster.Options{Name: "realnode", Bare: true, RealNode: true}, func(_ context.Context, c *cluster.Cluster) (func(), error) {
		shared = c
		return removeLinks, makeLinks()
	})
	if err := sameTraces(before); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// missing says what a real node needs and is not there; empty where nothing is missing.
func missing() string {
	if m := suite.Missing(); m != "" {
		return m
	}
	if os.Geteuid() != 0 {
		return "a real node needs root: run as root"
	}
	for program, pkg := range map[string]string{
		"containerd": "containerd", "ctr": "containerd", "runc": "runc", "ip": "iproute2", "nsenter": "util-linux", "/usr/lib/cni/bridge": "containernetworking-plugins",
	} {
		if _, err := exec.LookPath(program); err != nil {
			return "a real node needs " + program + ": install the Debian package " + pkg
		}
	}
	for _, needed := range []string{filepath.Join("images", "controller.tar"), filepath.Join("images", "agent.tar"), filepath.Join("images", "pause.tar"), "agent", "helm"} {
		path, err := cluster.Binary(needed)
		if err == nil {
			_, err = os.Stat(path)
		}
		if err != nil {
			return "a real node needs bin/" + needed + ": run make build images helm"
		}
	}
	return ""
}

func makeLinks() error {
	removeLinks() // of a run that was killed
	for one, end := range map[string]string{card: peer, other: away} {
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: one}, PeerName: end}); err != nil {
			return fmt.Errorf("making link %s, %w", one, err)
		}
		for _, name := range []string{one, end} {
			if err := setLink(name, true); err != nil {
				return err
			}
		}
	}
	return nil
}

func setLink(name string, up bool) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("finding link %s, %w", name, err)
	}
	set := netlink.LinkSetDown
	if up {
		set = netlink.LinkSetUp
	}
	if err := set(link); err != nil {
		return fmt.Errorf("setting link %s, %w", name, err)
	}
	return nil
}

func removeLinks() {
	for _, name := range []string{card, other} {
		if link, err := netlink.LinkByName(name); err == nil {
			_ = netlink.LinkDel(link) // its other end goes with it
		}
	}
}

// traces is what a node could leave on the machine: links, control groups, mounts, directories, settings.
func traces() (string, error) {
	var found strings.Builder
	links, err := netlink.LinkList()
	if err != nil {
		return "", fmt.Errorf("listing links, %w", err)
	}
	for _, link := range links {
		if strings.HasPrefix(link.Attrs().Name, "localcluster") {
			fmt.Fprintln(&found, "link", link.Attrs().Name)
		}
	}
	for _, pattern := range []string{
		"/sys/fs/cgroup/localcluster-*", "/sys/fs/cgroup/*/localcluster-*", "/run/netns/cni-*",
		"/run/containerd", "/var/lib/kubelet", "/var/lib/containerd", "/var/lib/cni", "/var/lib/autorepair", "/etc/cni/net.d/*",
	} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		for _, path := range paths {
			fmt.Fprintln(&found, "file", path)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	fmt.Fprintln(&found, "mounts", strings.Count(string(mounts), "\n"))
	for _, setting := range []string{"kernel/panic", "kernel/panic_on_oops", "vm/overcommit_memory", "vm/panic_on_oom", "net/ipv4/ip_forward"} {
		value, err := os.ReadFile(filepath.Join("/proc/sys", setting))
		if err != nil {
			continue // a kernel without it
		}
		fmt.Fprintln(&found, setting, strings.TrimSpace(string(value)))
	}
	return found.String(), nil
}

func sameTraces(before string) error {
	after, err := traces()
	if err == nil && after != before {
		err = errors.New("the real node has left something behind, or changed it; before:\n" + before + "\nafter:\n" + after)
	}
	return err
}
