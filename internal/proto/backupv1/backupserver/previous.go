package backupserver

import (
	"errors"
	"net/http"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/backupv1"
	"github.com/holdfast-backup/holdfast/internal/proto/repoerr"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/rawfile"
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
	if b.conf.Hidden != nil && b.conf.Hidden(name) {
		return nil, rest.Errorf(http.StatusForbidden, "permission check failed: %s of the previous backup may not be read", name)
	}
	var f rawfile.File
	err = b.change(func() (err error) { f, err = b.openPrevious(name); return err })
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // was only read
	b.note("download '%s' from previous backup", name)
	rest.Send(w, f.Size, f)
	return nil, errSent
}

func (b *Session) openPrevious(name names.Archive) (rawfile.File, error) {
	snap := b.ses.Previous()
	if snap == nil {
		return rawfile.File{}, errors.New("no valid previous backup")
	}
	f, err := b.known.previous.Open(snap, name)
	if name.Kind() == names.Blob && errors.Is(err, repo.ErrNotFound) {
		err = repoerr.WithStatus(err, http.StatusNotFound)
	}
	return f, err
}
