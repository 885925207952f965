package main

import (
	"errors"
	"io"
	"sync"
	"syscall"
)

// printed is where results are written. It remembers that one could not be, so that who
// prints need not look each time.
type printed struct {
	io.Writer
	mu  sync.Mutex
	err error
}

func (p *printed) Write(text []byte) (int, error) {
	n, err := p.Writer.Write(text)
	p.mu.Lock()
	defer p.mu.Unlock()
	// Who reads no further (| head) has what he wants.
	if p.err == nil && !errors.Is(err, syscall.EPIPE) {
		p.err = err
	}
	return n, err
}

// failure is the first error of a write.
func (p *printed) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Fd is that of the terminal or file below it.
func (p *printed) Fd() uintptr {
	if f, ok := p.Writer.(interface{ Fd() uintptr }); ok {
		return f.Fd()
	}
	return ^uintptr(0)
}
