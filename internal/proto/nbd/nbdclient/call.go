package nbdclient

import (
	"fmt"
	"time"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

// call is one request. Between conn.start and the closing of done it belongs to
// the connection, with its buffers.
type call struct {
	cmd    nbd.Command
	flags  nbd.CommandFlags
	off    int64
	length int64
	dst    []byte // READ: length bytes
	src    []byte // WRITE: length bytes

	cover  coverage
	status []*runs // BLOCK_STATUS: one for each context of the connection

	refused *nbd.Error // the server's first error
	err     error      // how it ended
	done    chan struct{}

	cookie uint64
	since  time.Time
	size   int64 // of the export
}

// reset prepares for the first or another try.
func (c *call) reset() {
	c.cover.parts = c.cover.parts[:0]
	c.status, c.refused, c.err = nil, nil, nil
	c.done = make(chan struct{})
}

// refuse notes an error of the server.
func (c *call) refuse(e nbd.Error) {
	if c.refused == nil {
		c.refused = &e
	}
}

// finish decides how a call ended whose last reply came over s. An error of the
// protocol comes back too.
func (c *call) finish(s *session) error {
	switch {
	case c.refused != nil:
		c.err = c.refused
		return nil
	case c.cmd == nbd.CmdRead && !c.cover.complete(len(c.dst)):
		c.err = fmt.Errorf("%w: a read of %d bytes at offset %d is answered in part", ErrProtocol, len(c.dst), c.off)
	case c.cmd == nbd.CmdBlockStatus:
		for i, name := range s.contexts {
			if c.status == nil || c.status[i] == nil {
				c.err = fmt.Errorf("%w: the status at offset %d says nothing about %s", ErrProtocol, c.off, name)
			}
		}
	}
	return c.err
}
