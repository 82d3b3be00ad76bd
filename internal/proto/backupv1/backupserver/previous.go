package backupserver

import (
	"bytes"
	"errors"
	"io"
	"net/http"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/backupv1"
	"github.com/holdfast-backup/holdfast/internal/proto/repoerr"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

func (b *Session) previousTime(http.ResponseWriter, *http.Request) (any, error) {
	if p := b.ses.Previous(); p != nil {
		return p.Name().Time, nil
	}
	return nil, nil
}

// previous sends a file of the previous snapshot. The chunks of an index are
// known from then on.
func (b *Session) previous(w http.ResponseWriter, r *http.Request) (any, error) {
	p, err := rest.Query(r)
	if err != nil {
		return nil, err
	}
	name, err := backupv1.ParsePrevious(p)
	if err != nil {
		return nil, err
	}
	var f sendable
	err = b.change(func() (err error) { f, err = b.openPrevious(name); return err })
	if err != nil {
		return nil, err
	}
	if f.closer != nil {
		defer func() { _ = f.closer.Close() }() // was only read
	}
	b.log("download '%s' from previous backup", name)
	rest.Send(w, f.size, f.from)
	return nil, errSent
}

// sendable is an open file.
type sendable struct {
	from   io.WriterTo
	size   int64
	closer io.Closer // nil: it stays open
}

func (b *Session) openPrevious(name names.Archive) (sendable, error) {
	snap := b.ses.Previous()
	if snap == nil {
		return sendable{}, errors.New("no valid previous backup")
	}
	switch name.Kind() {
	case names.Fidx:
		x, c, err := snap.OpenFixed(name)
		if err != nil {
			return sendable{}, err
		}
		return b.learn(name, sendable{x, x.FileSize(), c}, func() error { return b.known.indexes.AddFixed(x, c) })
	case names.Didx:
		x, c, err := snap.OpenDynamic(name)
		if err != nil {
			return sendable{}, err
		}
		return b.learn(name, sendable{x, x.FileSize(), c}, func() error { return b.known.indexes.AddDynamic(x, c) })
	}
	raw, err := snap.Blob(name)
	if errors.Is(err, repo.ErrNotFound) {
		err = repoerr.WithStatus(err, http.StatusNotFound)
	}
	return sendable{from: bytes.NewReader(raw), size: int64(len(raw))}, err
}

// learn adds the chunks of an index to what is known, once. add takes the index
// over, which is closed at the end of the session.
func (b *Session) learn(name names.Archive, f sendable, add func() error) (sendable, error) {
	b.learning.Lock()
	defer b.learning.Unlock()
	if b.learnt[name] {
		return f, nil
	}
	if err := add(); err != nil {
		return sendable{}, err
	}
	b.learnt[name] = true
	f.closer = nil
	return f, nil
}
