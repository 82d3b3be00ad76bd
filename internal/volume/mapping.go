package volume

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/volumeheader"
	"github.com/holdfast-backup/holdfast/internal/kernel/dm"
)

// Mapping is a volume whose payload is a device of its own.
type Mapping struct {
	Name      string
	Node      string // below /dev/mapper
	Size      int64  // bytes of the payload
	ReadOnly  bool
	ThrowAway bool      // what is written to it goes when it is unmapped
	Since     time.Time // zero for one that another program made

	Device string // below; empty if it cannot be found
	Header volumeheader.Header
	// Trouble is why device or header are not known.
	Trouble error
}

// mapper is what is needed of device-mapper.
type mapper interface {
	List() ([]dm.Named, error)
	Info(name string) (dm.Info, error)
	Table(name string) ([]dm.Target, error)
	Status(name string) ([]dm.Target, error)
	Create(ctx context.Context, name, uuid string, table []dm.Target, readOnly bool) (dm.Info, error)
	Remove(ctx context.Context, name string, wait time.Duration) error
}

// Targets of volumes.
const (
	linear   = "linear"
	snapshot = "snapshot"
)

// linearTable is a payload of size bytes that begins at the byte start of a device.
func linearTable(dev uint64, start, size int64) []dm.Target {
	return []dm.Target{{
		Length: uint64(size / dm.Sector), Type: linear,
		Params: fmt.Sprintf("%s %d", devText(dev), start/dm.Sector),
	}}
}

// parseLinear is its inverse, for tables of anybody: ok is false for any other.
func parseLinear(table []dm.Target) (dev uint64, start, size int64, ok bool) {
	if len(table) != 1 || table[0].Type != linear || table[0].Start != 0 || table[0].Length > volumeheader.MaxSize/dm.Sector {
		return 0, 0, 0, false
	}
	f := strings.Fields(table[0].Params)
	if len(f) != 2 {
		return 0, 0, 0, false
	}
	dev, ok = parseDev(f[0])
	sector, err := strconv.ParseUint(f[1], 10, 48)
	return dev, int64(sector) * dm.Sector, int64(table[0].Length) * dm.Sector, ok && err == nil
}

// cowChunk is the unit that a throw-away mapping copies, in sectors.
const cowChunk = 8

// snapshotTable is a payload over base that keeps its changes on cow, and forgets them.
func snapshotTable(base, cow uint64, size int64) []dm.Target {
	return []dm.Target{{
		Length: uint64(size / dm.Sector), Type: snapshot,
		Params: fmt.Sprintf("%s %s N %d", devText(base), devText(cow), cowChunk),
	}}
}

// parseSnapshot returns the base of such a table.
func parseSnapshot(table []dm.Target) (base uint64, ok bool) {
	if len(table) != 1 || table[0].Type != snapshot || table[0].Start != 0 {
		return 0, false
	}
	f := strings.Fields(table[0].Params)
	if len(f) < 2 {
		return 0, false
	}
	return parseDev(f[0])
}
