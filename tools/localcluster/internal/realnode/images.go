package realnode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// Import puts every OCI archive of a directory into the containerd with the given pid.
func Import(ctx context.Context, containerd int, directory string) ([]string, error) {
	archives, err := filepath.Glob(filepath.Join(directory, "*.tar"))
	if err != nil {
		return nil, fmt.Errorf("listing images, %w", err)
	}
	if len(archives) == 0 {
		return nil, fmt.Errorf("no images in %s: run make images, or name another directory with --real-node-images", directory)
	}
	// The path of a socket has at most 107 bytes, which that of a working tree may take up alone.
	socket := filepath.Join("/proc", strconv.Itoa(containerd), "root", Socket)
	if err := waitSocket(ctx, socket); err != nil {
		return nil, err
	}
	for _, archive := range archives {
		cmd := exec.CommandContext(ctx, "ctr", "--address", socket, "--namespace", "k8s.io", "images", "import", archive)
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("importing %s, %w: %s", archive, err, out)
		}
	}
	return archives, nil
}

func waitSocket(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		connection, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
		if err == nil {
			return connection.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for containerd to listen, %w", errors.Join(ctx.Err(), err))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// ServeService passes connections to the Service kubernetes on to the API server, as kube-proxy would.
func ServeService(ctx context.Context, apiServer string) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(ServiceAddress, "443"))
	if err != nil {
		return fmt.Errorf("listening for the Service kubernetes, %w", err)
	}
	go func() { <-ctx.Done(); _ = listener.Close() }()
	for {
		from, err := listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accepting a connection, %w", err)
		}
		go forward(from, apiServer)
	}
}

func forward(from net.Conn, apiServer string) {
	defer func() { _ = from.Close() }()
	to, err := net.Dial("tcp", apiServer)
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "reaching the API server,", err)
		return
	}
	defer func() { _ = to.Close() }()
	done := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{from, to}, {to, from}} {
		go func() { _, _ = io.Copy(pair[0], pair[1]); done <- struct{}{} }()
	}
	<-done
}
