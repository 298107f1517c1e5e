package machine

import (
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Forwarder carries TCP connections to another address, as a way that may be slow or cut.
type Forwarder struct {
	listener net.Listener
	to       string

	mu          sync.Mutex // guards what follows
	delay       time.Duration
	connections map[net.Conn]bool
	closed      bool
}

// Forward carries connections to listen on to another address until it is closed. Port 0 is any that is free.
func Forward(listen, to string) (*Forwarder, error) {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("listening for connections to forward, %w", err)
	}
	f := &Forwarder{listener: listener, to: to, connections: map[net.Conn]bool{}}
	go f.accept()
	return f, nil
}

// Address that it listens on.
func (f *Forwarder) Address() string { return f.listener.Addr().String() }

// SetDelay makes every answer late by so much, from the next bytes on.
func (f *Forwarder) SetDelay(delay time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.delay = delay
}

// Close ends it and all connections.
func (f *Forwarder) Close() {
	_ = f.listener.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for connection := range f.connections {
		_ = connection.Close()
	}
}

func (f *Forwarder) accept() {
	for {
		near, err := f.listener.Accept()
		if err != nil {
			return
		}
		go f.carry(near)
	}
}

func (f *Forwarder) carry(near net.Conn) {
	defer f.drop(near)
	if !f.keep(near) {
		return
	}
	far, err := net.Dial("tcp", f.to)
	if err != nil {
		return // near is closed, as by a server that is away
	}
	defer f.drop(far)
	if !f.keep(far) {
		return
	}
	go func() {
		defer f.drop(far)
		_, _ = io.Copy(far, near)
	}()
	_, _ = io.Copy(late{near, f}, far)
}

// keep notes a connection, unless all are closed already.
func (f *Forwarder) keep(connection net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.connections[connection] = true
	return !f.closed
}

func (f *Forwarder) drop(connection net.Conn) {
	_ = connection.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.connections, connection)
}

// late writes after the delay.
type late struct {
	io.Writer
	forwarder *Forwarder
}

func (l late) Write(p []byte) (int, error) {
	l.forwarder.mu.Lock()
	delay := l.forwarder.delay
	l.forwarder.mu.Unlock()
	time.Sleep(delay)
	return l.Writer.Write(p)
}
