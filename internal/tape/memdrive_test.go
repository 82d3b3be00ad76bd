package tape_test

import (
	"errors"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/tape"
)

// memDrive is a tape in memory: blocks, and nil for filemarks. Only what
// streams call works.
type memDrive struct {
	tape.Drive
	blocks [][]byte
	at     int
	early  int // the block from which on every write says so; 0: never
	failAt int // the write that fails, from 1; 0: none
	writes int
	reads  int
}

var errBroken = errors.New("the cable was pulled")

func (d *memDrive) write(b []byte) (bool, error) {
	if d.writes++; d.writes == d.failAt {
		return false, errBroken
	}
	d.blocks = append(d.blocks[:d.at], b)
	d.at++
	return d.early != 0 && d.at >= d.early, nil
}

func (d *memDrive) WriteBlock(p []byte) (bool, error) { return d.write(slices.Clone(p)) }
func (d *memDrive) WriteFilemark() (bool, error)      { return d.write(nil) }

func (d *memDrive) ReadBlock(p []byte) (int, error) {
	d.reads++
	if d.at == len(d.blocks) {
		return 0, tape.ErrEndOfData
	}
	b := d.blocks[d.at]
	d.at++
	if b == nil {
		return 0, tape.ErrFilemark
	}
	return copy(p, b), nil
}
