// Package qcow2target writes a disk image as a new qcow2 file, alone or as the
// increment of a backing file.
//
// # Layout
//
// Version 3 without optional features, so that every QEMU since 1.1 reads it, or
// compressed with zstd, for QEMU from 5.1 on:
//
//	cluster 0   the header
//	1 ...       the L1 table
//	...         data clusters, L2 tables and blocks of reference counts, in the
//	            order of their first use
//	...         the last blocks of reference counts, then their table
//
// Clusters are handed out one after the other and never given back, so their
// counts are known when the next ones are used: a finished image has no leaks and
// no errors for qemu-img check. What is neither written nor zeroed is not allocated: it reads
// as zeros, or as what the backing file has.
//
// # Whole or nothing
//
// The header is written last, after all else is synced, and synced again. Until
// then the file begins with zeros, which nobody takes for an image. After a
// failed write nothing makes it one.
//
// # Order and memory
//
// Writes come in any order from any number of goroutines, as for every
// image.Target. Whole clusters go to the file as they come; of a cluster that is
// written in part the rest is read from the backing file. The L1 table is in
// memory (8 bytes for 512 MiB of disk with clusters of 64 KiB), and of L2 tables
// those that were used last, [cacheBytes] in all; two blocks of reference counts;
// with compression 2 MiB for each call of WriteAt that is under way.
//
// # Compression
//
// Clusters that are written whole, in one call, are compressed one by one, and
// those that become smaller lie side by side, across the bounds of clusters. They
// cannot be written a second time.
//
// # Errors
//
// An image that cannot be described in qcow2 (its size, its backing file's name)
// wraps the format's ErrUnsupported. All others are the file's or the backing
// image's own.
package qcow2target

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	format "github.com/holdfast-backup/holdfast/internal/format/qcow2"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// DefaultCluster is the usual size of clusters in bytes.
const DefaultCluster = 64 << 10

// sector is the unit of disks for QEMU: it opens no others.
const sector = 512

// File is the new file, empty at the beginning. The image owns it.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
	// StartWriteback asks the kernel to begin writing what is dirty.
	StartWriteback()
}

// Options says what image is made.
type Options struct {
	Size    int64 // bytes; QEMU knows sectors, so the disk is rounded up to a multiple of 512
	Cluster int64 // bytes, a power of two from 512 to 2 MiB; 0: DefaultCluster

	// BackingName is the name of the backing file, a qcow2 image, as the header
	// has it; Backing is its content. Both or none.
	BackingName string
	Backing     image.Image

	Compress bool
}

// Image is a qcow2 file that is being written.
type Image struct {
	f       File
	backing image.Image
	parts   [64]sync.Mutex // of clusters that are written in part, by number

	packers chan *packer // those that nobody uses now

	mu      sync.Mutex // also held while L2 tables come and go, once in 512 MiB of disk
	h       format.Header
	tables  tables
	counts  counts
	pack    area  // for the next compressed cluster
	end     int64 // the first free byte
	written int64 // bytes of data since the file system was asked to write
	failed  error // the first; the file will not become an image
	done    bool
	closed  bool
}

var _ image.Target = (*Image)(nil)

// New begins an image in an empty file, which it owns from then on; after an
// error the caller still does.
func New(f File, o Options) (*Image, error) {
	if o.Cluster == 0 {
		o.Cluster = DefaultCluster
	}
	bits := uint32(0)
	for int64(1)<<bits < o.Cluster {
		bits++
	}
	switch {
	case int64(1)<<bits != o.Cluster || o.Cluster < 512 || o.Cluster > format.MaxCluster:
		return nil, fmt.Errorf("clusters of %d bytes: %w", o.Cluster, format.ErrUnsupported)
	case o.Size < 0 || o.Size > 1<<62:
		return nil, fmt.Errorf("disk of %d bytes: %w", o.Size, format.ErrUnsupported)
	case (o.BackingName == "") != (o.Backing == nil):
		panic("qcow2target: a backing file needs name and content")
	}
	i := &Image{f: f, backing: o.Backing, h: format.Header{
		Version: 3, ClusterBits: bits, Size: (o.Size + sector - 1) &^ (sector - 1), BackingFile: o.BackingName,
		L1Offset: o.Cluster,
	}}
	if o.BackingName != "" {
		i.h.BackingFormat = "qcow2"
	}
	if o.Compress {
		i.h.Compression, i.h.Incompatible = format.Zstd, format.IncompatCompression
		i.packers = make(chan *packer, runtime.GOMAXPROCS(0))
	}
	i.h.L1Entries = i.h.L1Length()
	if i.h.L1Entries > format.MaxL1/format.L1EntrySize {
		return nil, fmt.Errorf("disk of %d bytes in clusters of %d: %w", o.Size, o.Cluster, format.ErrUnsupported)
	}
	if _, err := i.h.Append(nil); err != nil { // better now than after the last byte
		return nil, err
	}
	i.end = i.up(o.Cluster + i.h.L1Entries*format.L1EntrySize)
	i.counts.add(i.end/o.Cluster, 1)
	i.tables = newTables(i)
	return i, nil
}

// Size is the size of the disk in bytes.
func (i *Image) Size() int64 { return i.h.Size }

// Fresh reports that what is not written reads as zeros: there is no backing
// file.
func (i *Image) Fresh() bool { return i.backing == nil }

// Written is the length of the file so far.
func (i *Image) Written() int64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.end
}

// up rounds to the next cluster.
func (i *Image) up(n int64) int64 { return (n + i.h.Cluster() - 1) &^ (i.h.Cluster() - 1) }

// fail keeps the first failure.
func (i *Image) fail(err error) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.failed == nil {
		i.failed = err
	}
	return err
}

// Finish makes the file an image, durable, and nothing more can be written.
// Its name is the caller's to sync.
func (i *Image) Finish() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.done:
		return errors.New("the qcow2 image was finished before")
	case i.failed != nil:
		return fmt.Errorf("the qcow2 image cannot be finished, since a write failed: %w", i.failed)
	}
	err := i.finish()
	i.done, i.failed = err == nil, err
	return err
}

func (i *Image) finish() error {
	if err := i.tables.flush(); err != nil {
		return err
	}
	if err := i.writeL1(); err != nil {
		return err
	}
	if err := i.writeCounts(); err != nil {
		return err
	}
	if err := i.f.Sync(); err != nil {
		return err
	}
	head, err := i.h.Append(nil)
	if err != nil {
		return err
	}
	if _, err := i.f.WriteAt(head, 0); err != nil {
		return err
	}
	return i.f.Sync()
}

// Close closes the file. Without Finish before, what is in it is no image.
func (i *Image) Close() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return nil
	}
	i.closed = true
	i.closePackers()
	return i.f.Close()
}
