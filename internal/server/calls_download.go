package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image/archive"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
	"github.com/holdfast-backup/holdfast/internal/server/api"
	"github.com/holdfast-backup/holdfast/internal/server/stores"
)

// octets is the media type of files.
const octets = "application/octet-stream"

// downloadCalls are the calls that hand out files of snapshots.
func (s *Server) downloadCalls() []api.Call {
	const at = "/admin/datastore/{store}"
	return []api.Call{
		{
			Method: "GET", Path: at + "/download", Doc: "Download a file of a snapshot as it is stored.",
			Guard: content(access.CallRestore), Params: snapParams(params.file), Do: api.Stream(octets, s.download).WithBody(),
		},
		{
			Method: "GET", Path: at + "/download-decoded", Doc: "Download the content of a file of a snapshot, which must not be encrypted.",
			Guard: content(access.CallRestore), Params: snapParams(params.file), Do: api.Stream(octets, s.downloadDecoded).WithBody(),
		},
	}
}

// withSnapshot runs f with a snapshot that the caller may read.
func (s *Server) withSnapshot(r *api.Request, f func(repo.Snapshot) error) error {
	ctx := r.HTTP.Context()
	return s.withGroup(ctx, r, access.CallRestore, stores.Read, func(h *stores.Handle) (err error) {
		snap, err := h.Open(ctx, snapOf(r))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, snap.Close()) }()
		return f(snap)
	})
}

func (s *Server) download(w http.ResponseWriter, r *api.Request) error {
	return s.withSnapshot(r, func(snap repo.Snapshot) error {
		name := params.file.Of(r)
		switch name.Kind() {
		case names.Fidx:
			x, c, err := snap.OpenFixed(name)
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }() // was only read
			return send(w, name, x.FileSize(), x)
		case names.Didx:
			x, c, err := snap.OpenDynamic(name)
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }() // was only read
			return send(w, name, x.FileSize(), x)
		}
		raw, err := snap.Blob(name)
		if err != nil {
			return err
		}
		return send(w, name, int64(len(raw)), bytes.NewReader(raw))
	})
}

// send answers with a file.
func send(w http.ResponseWriter, name names.Archive, size int64, from io.WriterTo) error {
	head(w, name.String(), size)
	_, err := from.WriteTo(w)
	return err
}

// head begins an answer that is a file; size -1 is not known yet.
func head(w http.ResponseWriter, name string, size int64) {
	h := w.Header()
	h.Set("Content-Type", octets)
	h.Set("Content-Disposition", attachment(name))
	if size >= 0 {
		h.Set("Content-Length", strconv.FormatInt(size, 10))
	}
}

func (s *Server) downloadDecoded(w http.ResponseWriter, r *api.Request) error {
	return s.withSnapshot(r, func(snap repo.Snapshot) error {
		name := params.file.Of(r)
		if f, ok := snap.Manifest().File(name.String()); ok && f.CryptMode == manifest.ModeEncrypt {
			return fmt.Errorf("cannot decode '%s' - is encrypted", name)
		}
		ctx := r.HTTP.Context()
		switch name.Kind() {
		case names.Fidx:
			return s.sendImage(ctx, w, snap, name)
		case names.Didx:
			return sendDynamic(ctx, w, snap, name)
		}
		plain, err := fetch.Blob(snap, name, nil)
		if errors.Is(err, blob.ErrNoKey) {
			return fmt.Errorf("cannot decode '%s' - is encrypted: %w", name, err)
		}
		if err != nil {
			return err
		}
		head(w, name.Base(), int64(len(plain)))
		_, err = w.Write(plain)
		return err
	})
}

// readAhead is how many workers decode chunks for one download.
const readAhead = 2

func sendDynamic(ctx context.Context, w http.ResponseWriter, snap repo.Snapshot, name names.Archive) (err error) {
	x, err := fetch.OpenDynamic(snap, name, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, x.Close()) }()
	size := int64(x.Index.Size())
	stream, err := fetch.NewStream(ctx, snap, x, 0, size, readAhead)
	if err != nil {
		return err
	}
	defer stream.Close()
	head(w, name.Base(), size)
	_, err = stream.WriteTo(w)
	return err
}

func (s *Server) sendImage(ctx context.Context, w http.ResponseWriter, snap repo.Snapshot, name names.Archive) (err error) {
	img, err := archive.Open(ctx, snap, name, nil, archive.Options{Cache: s.cache})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	head(w, name.Base(), img.Size())
	_, err = io.CopyBuffer(struct{ io.Writer }{w}, io.NewSectionReader(img, 0, img.Size()), make([]byte, 1<<20))
	return err
}
