package qcow2target

import (
	"errors"
	"fmt"
	"io"

	format "github.com/holdfast-backup/holdfast/internal/format/qcow2"
)

// writebackStep is after how many bytes the kernel is asked to begin writing,
// so that the sync at the end has little left to do.
const writebackStep = 32 << 20

// WriteAt writes p at off, which must lie within the disk.
func (i *Image) WriteAt(p []byte, off int64) (int, error) {
	if err := i.within(off, int64(len(p))); err != nil {
		return 0, err
	}
	done, cluster := 0, i.h.Cluster()
	for done < len(p) {
		at, rest := off+int64(done), int64(len(p)-done)
		n := min(cluster-at%cluster, rest)
		var err error
		if at%cluster == 0 && (rest >= cluster || at+rest == i.h.Size) {
			if rest >= cluster {
				n = rest / cluster * cluster
			}
			err = i.clusters(p[done:done+int(n)], at)
		} else {
			err = i.part(p[done:done+int(n)], at)
		}
		if err != nil {
			return done, i.fail(fmt.Errorf("write qcow2 image at disk offset %d: %w", at, err))
		}
		done += int(n)
	}
	return done, nil
}

func (i *Image) within(off, n int64) error {
	if off < 0 || n < 0 || off > i.h.Size-n {
		return fmt.Errorf("qcow2 image of %d bytes: %d bytes at offset %d exceed it", i.h.Size, n, off)
	}
	return nil
}

// whole writes clusters from the beginning of one on, the last of the disk
// perhaps in part. Nobody else writes to them meanwhile.
func (i *Image) whole(p []byte, off int64) error {
	cluster := i.h.Cluster()
	for len(p) > 0 {
		host, n, err := i.place(off, int64(len(p)))
		if err != nil {
			return err
		}
		if _, err := i.f.WriteAt(p[:n], host); err != nil {
			return err
		}
		if err := i.point(off, (n+cluster-1)/cluster, host); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

// place returns where in the file up to n bytes from the beginning of a cluster
// on go: where the first one is, or new clusters for as many as have none.
func (i *Image) place(off, n int64) (host, length int64, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	cluster := i.h.Cluster()
	for ; length < n; length += cluster {
		e, err := i.tables.get((off + length) / cluster)
		if err != nil {
			return 0, 0, err
		}
		if e.Compressed {
			return 0, 0, errTwice
		}
		if e.Host == 0 {
			continue
		}
		if length == 0 {
			return e.Host, min(cluster, n), nil
		}
		break
	}
	length = min(length, n)
	i.asked(length)
	host, err = i.allocate((length+cluster-1)/cluster, 1)
	return host, length, err
}

// allocate hands out clusters, to which so many refer. i.mu is held, once in
// some GiB across a write.
func (i *Image) allocate(clusters int64, refers uint16) (int64, error) {
	host := i.end
	i.end += clusters * i.h.Cluster()
	i.counts.add(clusters, refers)
	return host, i.spillCounts()
}

// asked starts writing once in a while. i.mu is held; it does not wait.
func (i *Image) asked(n int64) {
	if i.written += n; i.written >= writebackStep {
		i.written = 0
		i.f.StartWriteback()
	}
}

// point makes clusters of the disk those at host.
func (i *Image) point(off, clusters, host int64) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	cluster := i.h.Cluster()
	for n := range clusters {
		if err := i.tables.set(off/cluster+n, format.TableEntry(host+n*cluster)); err != nil {
			return err
		}
	}
	return nil
}

// part writes within one cluster. Others may write to the rest of it.
func (i *Image) part(p []byte, off int64) error {
	cluster := i.h.Cluster()
	index := off / cluster
	lock := &i.parts[index%int64(len(i.parts))]
	lock.Lock()
	defer lock.Unlock()

	e, err := i.entry(index)
	if err != nil {
		return err
	}
	if e.Compressed {
		return errTwice
	}
	if e.Host != 0 && !e.Zero {
		_, err := i.f.WriteAt(p, e.Host+off%cluster)
		return err
	}
	b := make([]byte, cluster)
	if !e.Zero && i.backing != nil {
		if err := i.below(b, index*cluster); err != nil {
			return err
		}
	}
	copy(b[off%cluster:], p)
	return i.whole(b, index*cluster)
}

func (i *Image) entry(index int64) (format.Entry, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.tables.get(index)
}

// below reads the backing file, behind whose end are zeros.
func (i *Image) below(p []byte, off int64) error {
	n := i.backing.Size() - off
	if n <= 0 {
		return nil
	}
	p = p[:min(n, int64(len(p)))]
	got, err := i.backing.ReadAt(p, off)
	if got == len(p) || err == nil {
		return nil
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read the backing file: %w", err)
}

// Zero makes [off, off+n) read as zeros.
func (i *Image) Zero(off, n int64) error {
	if err := i.within(off, n); err != nil {
		return err
	}
	cluster := i.h.Cluster()
	for n > 0 {
		var err error
		step := min(cluster-off%cluster, n)
		if off%cluster == 0 && (n >= cluster || off+n == i.h.Size) {
			step, err = i.zeroWhole(off, n)
		} else {
			err = i.zeroPart(off, step)
		}
		if err != nil {
			return i.fail(fmt.Errorf("write zeros to qcow2 image at disk offset %d: %w", off, err))
		}
		off, n = off+step, n-step
	}
	return nil
}

// zeroWhole marks clusters, up to the end of an L2 table, and returns how many
// bytes these are.
func (i *Image) zeroWhole(off, n int64) (int64, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	cluster := i.h.Cluster()
	span := cluster * i.h.L2Entries()
	last := off+n == i.h.Size // the disk's end may be in a cluster
	n = min(n, span-off%span)
	if i.backing == nil && !i.tables.exists(off/span) {
		return n, nil
	}
	done := int64(0)
	for ; n-done >= cluster || last && done < n; done += cluster {
		index := (off + done) / cluster
		e, err := i.tables.get(index)
		if err != nil {
			return 0, err
		}
		switch {
		case e.Compressed:
			err = errTwice
		case e.Host != 0:
			err = i.tables.set(index, format.TableEntry(e.Host)|format.ZeroEntry)
		case i.backing != nil:
			err = i.tables.set(index, format.ZeroEntry)
		}
		if err != nil {
			return 0, err
		}
	}
	return min(done, n), nil
}

func (i *Image) zeroPart(off, n int64) error {
	e, err := i.entry(off / i.h.Cluster())
	if err != nil || e.Zero || e.Host == 0 && i.backing == nil {
		return err // is zero, and who writes to the rest of it keeps it so
	}
	return i.part(make([]byte, n), off)
}
