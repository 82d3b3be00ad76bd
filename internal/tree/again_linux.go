package tree

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// againAhead is how many batches are read ahead while a run is written with its
// contents.
const againAhead = 4

// writeAll writes a run whose contents are not taken over: its files are read
// after all.
func (e *encoder) writeAll(run []awaiting) error {
	var batches []*batch
	for len(run) > 0 {
		n := min(len(run), batchItems)
		b := newBatch(n)
		for _, w := range run[:n] {
			w.it.again = w.rel >= 0
			w.it.todo = w.it.again
			b.items = append(b.items, w.it)
		}
		run = run[n:]
		batches = append(batches, b)
	}
	next := 0
	defer func() {
		for _, b := range batches[:next] {
			b.abandon()
		}
	}()
	for i, b := range batches {
		for ; next < min(i+againAhead, len(batches)); next++ {
			e.s.queue(batches[next])
		}
		<-b.done
		for k := range b.items {
			it := &b.items[k]
			e.faults(it)
			if it.fatal != nil {
				return it.fatal
			}
			if err := e.write(it); err != nil {
				return err
			}
		}
		e.s.giveBack(b)
	}
	return nil
}

// reopen reads a file that was not going to be read. It may have changed or gone
// since; then its entry is that of now.
func (r *reader) reopen(b *batch, it *item) {
	id := it.id
	it.reuse, it.old = false, nil
	fd, err := r.s.openAgain(it)
	r.opened(b, it, fd, err)
	switch {
	case it.step == none || it.fatal != nil:
	case it.entry.Kind != pxar.File:
		it.closeFile()
		it.step = none
		it.fault(Vanished, errors.New("something else has its name now"))
	case it.id != id:
		it.fault(Changed, errors.New("another file has its name now"))
	}
}

// openAgain opens a file by its path, through no symbolic link.
func (s *scan) openAgain(it *item) (int, error) {
	names := it.dir.components(it.entry.Name)
	how := unix.OpenHow{Flags: openFlags | unix.O_NOATIME, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	fd, err := unix.Openat2(s.root.fd, strings.Join(names, "/"), &how)
	if errors.Is(err, unix.EPERM) {
		how.Flags = openFlags
		fd, err = unix.Openat2(s.root.fd, strings.Join(names, "/"), &how)
	}
	if err == nil || !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.ENAMETOOLONG) {
		return fd, err
	}
	at := s.root.fd
	for i, name := range names {
		if i == len(names)-1 {
			fd, err = openFile(at, name)
		} else {
			fd, err = openDir(at, name)
		}
		if at != s.root.fd {
			_ = unix.Close(at)
		}
		if err != nil {
			return -1, err
		}
		at = fd
	}
	return fd, nil
}
