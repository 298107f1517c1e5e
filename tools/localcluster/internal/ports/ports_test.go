package ports

import (
	"net"
	"testing"
)

func TestFreePortsAreDifferentAndFree(t *testing.T) {
	found, err := Free(20)
	if err != nil {
		t.Fatalf("Free() = %v", err)
	}
	seen := map[int]bool{}
	for _, port := range found {
		if port < lowest || port > highest || seen[port] {
			t.Errorf("port %d is out of range or given twice", port)
		}
		seen[port] = true
	}
	if len(seen) != 20 {
		t.Errorf("got %d ports, want 20", len(seen))
	}
}

func TestPortWithAListenerIsNotFree(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if IsFree(port) {
		t.Errorf("IsFree(%d) = true while somebody listens on loopback", port)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if !IsFree(port) {
		t.Errorf("IsFree(%d) = false after the listener has closed", port)
	}
}
