//go:build linux

package machine

import (
	"fmt"
	"runtime/debug"
)

// Trouble is an error that says nothing about the kernel under test: the program
// is wrong, or the machine that it runs on is. A check that ends with one has the
// verdict error (package report).
type Trouble struct{ Err error }

func (t Trouble) Error() string { return t.Err.Error() }

// Unwrap returns what went wrong.
func (t Trouble) Unwrap() error { return t.Err }

// Recovered runs f and turns a panic into Trouble, with its trace.
func Recovered(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = Trouble{fmt.Errorf("the program panicked: %v\n%s", r, debug.Stack())}
		}
	}()
	return f()
}
