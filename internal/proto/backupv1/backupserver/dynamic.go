package backupserver

import (
	"fmt"
	"net/http"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/backupv1"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

func (b *Session) createDynamic(_ http.ResponseWriter, r *http.Request) (any, error) {
	p, err := rest.Read(r)
	if err != nil {
		return nil, err
	}
	call, err := backupv1.ParseCreateDynamic(p)
	if err != nil {
		return nil, err
	}
	return b.open(call.Name, func() (index, error) {
		w, err := b.ses.CreateDynamic(call.Name)
		return &dynamicIndex{w: w}, err
	})
}

func (b *Session) appendDynamic(_ http.ResponseWriter, r *http.Request) (any, error) {
	return b.append(r, names.Didx)
}

func (b *Session) closeDynamic(_ http.ResponseWriter, r *http.Request) (any, error) {
	return b.close(r, names.Didx)
}

// dynamicIndex grows at its end.
type dynamicIndex struct {
	w   repo.DynamicWriter
	end uint64
}

func (x *dynamicIndex) add(d digest.Digest, n int64, offset uint64) error {
	if offset != x.end {
		return fmt.Errorf("got strange chunk offset (%d != %d)", x.end, offset)
	}
	if err := x.w.Add(x.end+uint64(n), d); err != nil {
		return err
	}
	x.end += uint64(n)
	return nil
}

func (x *dynamicIndex) fits(c backupv1.Close, _ uint64) error {
	switch {
	case c.Count == 0 || c.Size == 0:
		return fmt.Errorf("it is empty")
	case c.Size != x.end:
		return fmt.Errorf("unexpected file size (%d != %d)", x.end, c.Size)
	}
	return nil
}

func (x *dynamicIndex) close() (file, error) {
	size, sum, err := x.w.Close()
	return file{size, sum}, err
}
