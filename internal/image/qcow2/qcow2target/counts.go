package qcow2target

import (
	"encoding/binary"

	format "github.com/holdfast-backup/holdfast/internal/format/qcow2"
)

// countWidth is the length of a reference count in bytes.
const countWidth = 1 << (format.RefcountOrder - 3)

// counts are the reference counts of the clusters from base on; those before are
// in blocks already. Image.mu guards them.
type counts struct {
	base   int64 // a cluster, the first of a block
	n      []uint16
	blocks []int64 // offsets, 8 bytes for 2 GiB of file
}

func (c *counts) add(clusters int64, refers uint16) {
	for range clusters {
		c.n = append(c.n, refers)
	}
}

// touch counts one more reference to a cluster.
func (c *counts) touch(cluster int64) { c.n[cluster-c.base]++ }

// perBlock is how many counts a block holds.
func (i *Image) perBlock() int64 { return i.h.Cluster() / countWidth }

// spillCounts writes blocks whose counts are final.
func (i *Image) spillCounts() error {
	c := &i.counts
	for int64(len(c.n)) >= 2*i.perBlock() {
		if i.pack.at/i.h.Cluster() < c.base+i.perBlock() {
			i.pack = area{} // no more goes there
		}
		host := i.end // not by allocate, which would come back here
		i.end += i.h.Cluster()
		c.add(1, 1)
		c.blocks = append(c.blocks, host)
		if err := i.writeBlock(host, c.n[:i.perBlock()]); err != nil {
			return err
		}
		c.n = append(c.n[:0], c.n[i.perBlock():]...)
		c.base += i.perBlock()
	}
	return nil
}

func (i *Image) writeBlock(host int64, n []uint16) error {
	b := make([]byte, 0, i.h.Cluster())
	for _, count := range n {
		b = binary.BigEndian.AppendUint16(b, count)
	}
	_, err := i.f.WriteAt(b[:cap(b)], host)
	return err
}

// writeCounts writes the blocks that are left, and their table. Both have counts
// themselves.
func (i *Image) writeCounts() error {
	c, cluster, per := &i.counts, i.h.Cluster(), i.perBlock()
	var blocks, table int64
	for before := int64(-1); before != blocks+table; { // grows until they hold themselves
		before = blocks + table
		blocks = (int64(len(c.n)) + before + per - 1) / per
		table = ((int64(len(c.blocks))+blocks)*8 + cluster - 1) / cluster
	}
	first := i.end
	i.end += (blocks + table) * cluster
	c.add(blocks+table, 1)
	for n := range blocks {
		host := first + n*cluster
		if err := i.writeBlock(host, c.n[n*per:min((n+1)*per, int64(len(c.n)))]); err != nil {
			return err
		}
		c.blocks = append(c.blocks, host)
	}
	i.h.Refcounts = format.RefcountTable{Offset: first + blocks*cluster, Clusters: table, Order: format.RefcountOrder}
	entries := make([]byte, 0, table*cluster)
	for _, host := range c.blocks {
		entries = binary.BigEndian.AppendUint64(entries, format.RefcountEntry(host))
	}
	_, err := i.f.WriteAt(entries[:cap(entries)], i.h.Refcounts.Offset)
	return err
}
