// Package ports finds free TCP ports.
package ports

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are taken from below the range that Linux hands out to outgoing
// connections (net.ipv4.ip_local_port_range starts at 32768), so that a port
// found free is not lost to a client before its server listens on it.
const (
	lowest  = 20000
	highest = 32767
	tries   = 2000
)

// Free returns n different ports on which nobody listens, on any interface.
// Two callers at once may still be given the same one; who starts the servers
// has to try again with others when one of them reports its address in use.
func Free(n int) ([]int, error) {
	found := make([]int, 0, n)
	taken := map[int]bool{}
	for range tries {
		if len(found) == n {
			return found, nil
		}
		port := lowest + rand.IntN(highest-lowest+1)
		if taken[port] || !IsFree(port) {
			continue
		}
		taken[port] = true
		found = append(found, port)
	}
	return nil, fmt.Errorf("finding %d free ports between %d and %d, only %d of %d tries were free", n, lowest, highest, len(found), tries)
}

// IsFree tells whether a server could listen on the port now.
func IsFree(port int) bool {
	// All interfaces, because Karpenter's metrics listen on all of them.
	listener, err := net.Listen("tcp", ":"+strconv.Itoa(port))
	if err != nil {
		return false
	}
	return listener.Close() == nil
}
