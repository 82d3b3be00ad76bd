package ext

import (
	"slices"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// overlay says which blocks are newer in the journal, and where. It does not
// change once it is made.
type overlay struct {
	blocks []logged // sorted by block, each once
	log    logInfo
}

// logged is a block as a transaction of the journal has it.
type logged struct {
	block, in uint64 // of the file system: its own place, that in the journal
	tid       uint32 // the transaction
	sum       uint32 // of the block as it is in the journal
	escaped   bool   // it began like a block of the journal, and zeros stand for that
}

// makeOverlay takes what transactions wrote, in their order, but for what a later
// or the same one revoked.
func makeOverlay(all []logged, revoked map[uint64]uint32, info logInfo) overlay {
	all = slices.DeleteFunc(all, func(l logged) bool {
		tid, ok := revoked[l.block]
		return ok && !after(l.tid, tid)
	})
	slices.SortStableFunc(all, func(a, b logged) int {
		switch {
		case a.block < b.block:
			return -1
		case a.block > b.block:
			return 1
		}
		return 0
	})
	last := all[:0]
	for i, l := range all {
		if i+1 == len(all) || all[i+1].block != l.block {
			last = append(last, l)
		}
	}
	return overlay{blocks: last, log: info}
}

// next is the first block at or behind n that is in the overlay.
func (o *overlay) next(n uint64) (block uint64, ok bool) {
	if len(o.blocks) == 0 {
		return 0, false
	}
	i := o.search(n)
	if i == len(o.blocks) {
		return 0, false
	}
	return o.blocks[i].block, true
}

func (o *overlay) at(n uint64) (logged, bool) {
	if i := o.search(n); i < len(o.blocks) && o.blocks[i].block == n {
		return o.blocks[i], true
	}
	return logged{}, false
}

func (o *overlay) search(n uint64) int {
	i, _ := slices.BinarySearchFunc(o.blocks, n, func(l logged, n uint64) int {
		switch {
		case l.block < n:
			return -1
		case l.block > n:
			return 1
		}
		return 0
	})
	return i
}

// read reads a block from the journal.
func (o *overlay) read(d *disk, b []byte, l logged) error {
	if err := fsread.ReadFull(d.img, layer, b, int64(l.in)*d.size); err != nil {
		return err
	}
	if !o.log.matches(b, l) {
		return fsread.Corrupt(layer, "journal: the checksum of block %d in transaction %d is wrong", l.block, l.tid)
	}
	if l.escaped {
		be.PutUint32(b, logMagic)
	}
	return nil
}
