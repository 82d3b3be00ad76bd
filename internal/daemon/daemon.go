// Package daemon sends a command to the background after it has become ready.
//
// A Go program has threads from its first instruction and cannot fork, so the
// command runs a second time, as a child with the same arguments and
// descriptors:
//
//	parent: Background, waits          child: the command itself
//	                                   prints its result as usual
//	         one byte  <-------------  Ready: leaves the terminal
//	exit 0                             serves on
//
// Until Ready the child shares terminal, process group and standard streams
// with its parent: it can ask for a password, an interrupt reaches both, and
// what it prints appears in order. If it ends before Ready, the parent ends
// with its exit code, and it has said why itself.
package daemon

import (
	"errors"
	"os"
	"strconv"
)

// variable tells the child on which descriptor the parent waits.
const variable = "HOLDFAST_BACKGROUND_FD"

// ErrUnsupported is returned where processes cannot be sent to the background.
var ErrUnsupported = errors.New("this system has no background processes of that kind: use --foreground")

// Child is a process that [Background] started.
type Child struct{ pipe *os.File }

// Inherited returns the child that this process is; nil when it was started by
// a user.
func Inherited() *Child {
	fd, err := strconv.Atoi(os.Getenv(variable))
	if err != nil || fd < 3 {
		return nil
	}
	_ = os.Unsetenv(variable) // not for processes that this one starts
	f := os.NewFile(uintptr(fd), "background")
	if f == nil {
		return nil
	}
	return &Child{f}
}
