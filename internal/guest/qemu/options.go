package qemu

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Errors that callers tell apart.
var (
	ErrBusy    = errors.New("the NBD server of this QEMU is in use by someone else")
	ErrScratch = errors.New("the scratch files have reached their limit")
	ErrGone    = errors.New("QEMU is gone, or its monitor")
)

// Method is a way to make disks stand still, see the package comment.
type Method int

// The methods. Auto takes the first that this QEMU can do for all its disks.
const (
	Auto Method = iota
	Filter
	Job
)

var methodNames = [...]string{"auto", "filter", "job"}

func (m Method) String() string {
	if m < 0 || int(m) >= len(methodNames) {
		return fmt.Sprintf("qemu.Method(%d)", int(m))
	}
	return methodNames[m]
}

// ParseMethod is the inverse of String.
func ParseMethod(s string) (Method, error) {
	for m, name := range methodNames {
		if s == name {
			return Method(m), nil
		}
	}
	return 0, fmt.Errorf("unknown method %.40q: want auto, filter or job", s)
}

// Options says how a guest is backed up.
type Options struct {
	QMP   string // unix socket of the monitor
	Agent string // unix socket of the guest agent's port; "": no freezing

	// FreezeWait bounds how long the guest may take to freeze; 0: a minute.
	FreezeWait time.Duration
	// MustFreeze makes a guest that cannot be frozen an error; otherwise its
	// disks are as after a power cut, and a warning says so.
	MustFreeze bool

	Method Method
	// ScratchDir holds scratch files; "": the system's directory for
	// temporary files. In the worst case they become as large as the disks.
	ScratchDir string
	// ScratchLimit is the most bytes that all scratch files may take; 0: none.
	ScratchLimit int64

	// Disks, when not empty, names those to back up; Skip names some to leave
	// out. Otherwise all but removable and read-only ones are.
	Disks, Skip []string

	// RunDir is for the NBD socket: a directory that only this user can enter.
	RunDir string

	Log *slog.Logger // warnings; nil: none
}
