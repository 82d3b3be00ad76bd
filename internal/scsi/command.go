package scsi

import (
	"fmt"
	"time"
)

// Direction says which way the data of a command goes, seen from the host.
type Direction int

const (
	None Direction = iota // no data
	In                    // from the device
	Out                   // to the device
)

// Lengths of CDBs.
const (
	MinCDB = 6
	MaxCDB = 16
)

// MaxData is the most that one command moves, in bytes. It is far above what
// blocks and answers need; what asks for more is a bug or hostile.
const MaxData = 16 << 20

// Command is one command for a device.
type Command struct {
	CDB     []byte // MinCDB to MaxCDB bytes
	Dir     Direction
	Data    []byte        // what is sent, or room for what comes; none without a direction
	Timeout time.Duration // after it the transport gives up, and nobody knows what the device did
}

// Check says what is wrong with a command. No transport sends such a one.
func (c *Command) Check() error {
	switch op := OpcodeOf(c.CDB); {
	case len(c.CDB) < MinCDB || len(c.CDB) > MaxCDB:
		return fmt.Errorf("%s: a CDB of %d bytes", op, len(c.CDB))
	case c.Dir < None || c.Dir > Out:
		return fmt.Errorf("%s: data in direction %d", op, c.Dir)
	case c.Dir == None && len(c.Data) > 0:
		return fmt.Errorf("%s: %d bytes of data without a direction", op, len(c.Data))
	case len(c.Data) > MaxData:
		return fmt.Errorf("%s: %d bytes of data, at most %d are possible", op, len(c.Data), MaxData)
	case c.Timeout <= 0:
		return fmt.Errorf("%s: no timeout", op)
	}
	return nil
}
