package realnode

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Become makes the node's mount namespace and becomes a program in it. It returns only where that cannot be done.
func (n Node) Become(command []string) error {
	// Namespaces are a thread's; exec makes this thread the process.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("making a mount namespace, %w", err)
	}
	// What the machine mounts appears in the node, what the node mounts stays there.
	for _, how := range []uintptr{unix.MS_SLAVE, unix.MS_SHARED} {
		if err := unix.Mount("", "/", "", how|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("parting the node's mounts from the machine's, %w", err)
		}
	}
	for _, place := range own {
		if err := n.makePlace(place); err != nil {
			return err
		}
		if err := bind(n.behind(place), place); err != nil {
			return err
		}
	}
	for name := range settings {
		if err := bind(n.setting(name), filepath.Join("/proc/sys", name)); err != nil {
			return err
		}
	}
	return become(command)
}

// Enter becomes a program in the mount namespace of a process. It returns only where that cannot be done.
func Enter(pid int, command []string) error {
	runtime.LockOSThread()
	space, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), "ns", "mnt"))
	if err != nil {
		return fmt.Errorf("finding the node's mount namespace, %w", err)
	}
	defer func() { _ = space.Close() }()
	// A thread that shares its working directory with others may not change it for them.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("parting from the other threads, %w", err)
	}
	if err := unix.Setns(int(space.Fd()), unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("entering the node's mount namespace, %w", err)
	}
	return become(command)
}

func become(command []string) error {
	path, err := exec.LookPath(command[0])
	if err != nil {
		return fmt.Errorf("finding %s, %w", command[0], err)
	}
	if err := unix.Exec(path, command, os.Environ()); err != nil {
		return fmt.Errorf("becoming %s, %w", path, err)
	}
	return nil
}

func bind(from, to string) error {
	if _, err := os.Stat(to); errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(to, "/proc/sys/") {
		return nil // a setting that this kernel does not have
	}
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting %s, %w", to, err)
	}
	return nil
}

// madePlaces lists the directories that the machine did not have.
func (n Node) madePlaces() string { return filepath.Join(n.Directory, "made") }

// makePlace makes a directory to mount over where the machine has none, and writes down what it makes.
func (n Node) makePlace(place string) error {
	var missing []string
	for dir := place; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); err == nil {
			break
		}
		missing = append(missing, dir)
	}
	if len(missing) == 0 {
		return nil
	}
	list, err := os.OpenFile(n.madePlaces(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("writing down what is made, %w", err)
	}
	defer func() { _ = list.Close() }()
	for i := len(missing) - 1; i >= 0; i-- {
		if _, err := fmt.Fprintln(list, missing[i]); err != nil {
			return fmt.Errorf("writing down what is made, %w", err)
		}
		if err := os.Mkdir(missing[i], 0o755); err != nil {
			return fmt.Errorf("making a place to mount over, %w", err)
		}
	}
	return nil
}

// removePlaces removes what makePlace made, where it is as empty as it was.
func (n Node) removePlaces() {
	text, err := os.ReadFile(n.madePlaces())
	if err != nil {
		return
	}
	lines := strings.Fields(string(text))
	for i := len(lines) - 1; i >= 0; i-- {
		_ = unix.Rmdir(lines[i]) // in use by somebody else by now, it stays
	}
}
