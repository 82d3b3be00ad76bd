// Package target is the device's side of SCSI: what an emulated drive or
// changer implements so that it can be used in this process ([Connect]), from
// other processes (scsi/socket) and as device nodes of Linux (scsi/tcmu).
package target

import (
	"os"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/scsi"
)

// Unit is a logical unit: it carries out commands.
//
// All who use a unit are one initiator to it, as the programs of one host are
// to a drive: a unit attention is told once, to whoever comes next.
type Unit interface {
	// Execute carries out one command. out is the data that came with it, in is
	// room for the answer; one of them at least is empty. Both belong to the
	// caller and are used only until Execute returns.
	//
	// n is the number of bytes that were moved: how much of in is valid, or how
	// much of out was taken. The error is one that [scsi.Transport] names, with
	// the same meaning: nil, a *scsi.Sense (n still counts), a *scsi.StatusError,
	// or a *scsi.TransportError where the unit plays a device that does not
	// answer. Its Op need not be filled.
	//
	// The CDB comes as it was sent: a unit looks at its length before its bytes.
	// The unit, as a real one, moves no more than the CDB allows; that in has room
	// for all the CDB asks for is not promised, and what does not fit is dropped.
	//
	// Execute may be called by several goroutines; a unit that can do but one
	// thing at a time keeps the order itself.
	Execute(cdb, out, in []byte) (n int, err error)
}

// Connect returns a transport to a unit in this process. Timeouts of commands
// do not count: a unit always ends. Closing it leaves the unit as it is.
func Connect(u Unit) scsi.Transport { return &local{unit: u} }

// local carries commands by a call.
type local struct {
	unit Unit

	mu     sync.Mutex // held while a command runs: one at a time
	closed bool
}

func (l *local) Do(c scsi.Command) (int, error) {
	if err := c.Check(); err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, &scsi.TransportError{Op: scsi.OpcodeOf(c.CDB), Err: os.ErrClosed}
	}
	return Run(l.unit, c)
}

func (l *local) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return nil
}

// Run has a unit carry out a command and holds it to what it promises: n lies
// within the data, and errors name the command.
func Run(u Unit, c scsi.Command) (n int, err error) {
	switch c.Dir {
	case scsi.In:
		n, err = u.Execute(c.CDB, nil, c.Data)
	case scsi.Out:
		n, err = u.Execute(c.CDB, c.Data, nil)
	case scsi.None:
		n, err = u.Execute(c.CDB, nil, nil)
	}
	return min(max(n, 0), len(c.Data)), scsi.WithOp(err, scsi.OpcodeOf(c.CDB))
}
