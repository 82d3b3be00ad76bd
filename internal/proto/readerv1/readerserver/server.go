// Package readerserver is the server's end of the reader protocol
// (internal/proto/readerv1): it reads a snapshot for a client.
//
// [Open] opens the snapshot when the client has been let in; its errors are the
// answer to the request to upgrade. [Session.Serve] then answers the calls on
// the connection until it ends, which is no error whenever it happens.
//
// # Memory
//
// 5 to 10 bytes for each chunk of the indexes that the client downloaded, and
// 256 KiB for each answer on its way: chunks are passed on as they are read.
package readerserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/readerv1"
	"github.com/holdfast-backup/holdfast/internal/proto/repoerr"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
	"github.com/holdfast-backup/holdfast/internal/proto/upgrade"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/rawfile"
)

// Opener is the part of a repository that a session needs.
type Opener interface {
	Open(ctx context.Context, s names.Snapshot) (repo.Snapshot, error)
}

// Config says what a session is to be.
type Config struct {
	Repo    Opener
	Request upgrade.Request // of someone who may read the snapshot
	// Log tells people what happens, a line at a time; may be nil. It must be safe
	// for concurrent use.
	Log func(format string, args ...any)
	// Trouble hears of what goes wrong on the connection; nil: nobody.
	Trouble *slog.Logger
}

// Session reads one snapshot for a client. It implements http.Handler.
type Session struct {
	conf  Config
	snap  repo.Snapshot
	files rawfile.Files
	bufs  sync.Pool // of *[]byte
	notes atomic.Int64
}

// bufSize is how much of a chunk is in memory.
const bufSize = 256 << 10

// Open opens the snapshot. Its errors have the status of the answer.
func Open(ctx context.Context, c Config) (*Session, error) {
	snap, err := c.Repo.Open(ctx, c.Request.Snapshot)
	if err != nil {
		return nil, repoerr.ToWire(err)
	}
	s := &Session{conf: c, snap: snap}
	s.bufs.New = func() any { b := make([]byte, bufSize); return &b }
	if s.conf.Trouble == nil {
		s.conf.Trouble = slog.New(slog.DiscardHandler)
	}
	s.log("starting reader of %s", c.Request.Snapshot.Path())
	return s, nil
}

// maxNotes bounds the lines of a log that a client can cause as often as it likes.
const maxNotes = 20_000

// note is log for what a client can do again and again, and with names as long as it
// likes.
func (s *Session) note(format string, args ...any) {
	switch n := s.notes.Add(1); {
	case n < maxNotes:
		s.log("%.512s", fmt.Sprintf(format, args...))
	case n == maxNotes:
		s.log("more of such is not noted")
	}
}

func (s *Session) log(format string, args ...any) {
	if s.conf.Log != nil {
		s.conf.Log(format, args...)
	}
}

// Serve answers the calls on the connection until it ends, and closes the
// snapshot.
func (s *Session) Serve(ctx context.Context, conn *upgrade.Conn) error {
	err := conn.Serve(ctx, s, s.conf.Trouble)
	if err != nil && ctx.Err() == nil {
		s.log("%v", err) // the client is gone, which is how all of them leave
		err = nil
	}
	s.log("reader finished")
	return errors.Join(err, s.Close())
}

// Close closes the snapshot, after the last call.
func (s *Session) Close() error { return errors.Join(s.files.Close(), s.snap.Close()) }

// ServeHTTP answers one call. An error ends the call and not the session.
func (s *Session) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.conf.Request.Debug {
		s.note("%s %s", r.Method, r.URL.RequestURI())
	}
	err := s.dispatch(w, r)
	if err == nil {
		return
	}
	if _, derr := io.Copy(io.Discard, r.Body); derr != nil {
		return // it is gone
	}
	s.note("%s %s: %v", r.Method, r.URL.Path, err)
	rest.Fail(w, repoerr.ToWire(err))
}

func (s *Session) dispatch(w http.ResponseWriter, r *http.Request) error {
	path, err := rest.Path(r)
	if err != nil {
		return err
	}
	if r.Method == http.MethodGet && len(path) == 1 {
		p, err := rest.Query(r)
		if err != nil {
			return err
		}
		switch path[0] {
		case "download":
			return s.download(w, p)
		case "chunk":
			return s.chunk(r.Context(), w, p)
		case "speedtest":
			rest.Send(w, readerv1.SpeedtestSize, bytes.NewReader(bytes.Repeat([]byte("A"), readerv1.SpeedtestSize)))
			return nil
		}
	}
	if r.Method == http.MethodGet && len(path) == 0 {
		return rest.Reply(w, []map[string]string{{"subdir": "chunk"}, {"subdir": "download"}, {"subdir": "speedtest"}})
	}
	return rest.Errorf(http.StatusNotFound, "Path '%s' not found for %s.", r.URL.Path, r.Method)
}

// download sends a file. The chunks of an index may be read from then on.
func (s *Session) download(w http.ResponseWriter, p *rest.Params) error {
	name, err := readerv1.ParseDownload(p)
	if err != nil {
		return err
	}
	f, err := s.files.Open(s.snap, name)
	if name.Kind() == names.Blob && errors.Is(err, repo.ErrNotFound) {
		return repoerr.WithStatus(err, http.StatusNotFound)
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // was only read
	s.note("download '%s'", name)
	rest.Send(w, f.Size, f)
	return nil
}

// chunk sends a chunk that an index which was downloaded names.
func (s *Session) chunk(ctx context.Context, w http.ResponseWriter, p *rest.Params) error {
	d, err := readerv1.ParseChunk(p)
	if err != nil {
		return err
	}
	named, err := s.files.Has(d)
	if err != nil {
		return err
	}
	if !named {
		return rest.Errorf(http.StatusUnauthorized, "download chunk %s not allowed: no index that was downloaded names it", d)
	}
	from, size, err := s.open(ctx, d)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // was only read
	buf := s.bufs.Get().(*[]byte)
	defer s.bufs.Put(buf)
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	if n, err := io.CopyBuffer(writerOnly{w}, readerOnly{from}, *buf); err != nil || n != size {
		panic(http.ErrAbortHandler) // the client sees an answer that is cut short
	}
	return nil
}

// open opens a chunk; a repository that cannot do so has it read at once.
func (s *Session) open(ctx context.Context, d digest.Digest) (io.ReadCloser, int64, error) {
	if o, ok := s.snap.(interface {
		OpenChunk(ctx context.Context, d digest.Digest) (io.ReadCloser, int64, error)
	}); ok {
		return o.OpenChunk(ctx, d)
	}
	raw, err := s.snap.ReadChunk(ctx, d, nil)
	return io.NopCloser(bytes.NewReader(raw)), int64(len(raw)), err
}

// These hide what would let io.CopyBuffer do without its buffer.
type (
	writerOnly struct{ io.Writer }
	readerOnly struct{ io.Reader }
)
