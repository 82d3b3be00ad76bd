package provider

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/exclude"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/tree"
	"golang.org/x/sys/unix"
)

// RunWalker is backup_container as the process in the container's user
// namespace does it: it reads the tree, and the service at the other end of intro
// stores it. It returns when the archive is complete.
func RunWalker(ctx context.Context, intro *os.File, call ContainerCall, log Log) error {
	o, err := call.options()
	if err != nil {
		return err
	}
	c, err := introduce(intro)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	w := &walker{conn: c, out: bufio.NewWriterSize(c, 256<<10), call: call, options: o, log: log}
	defer w.closeBase()
	err = w.work(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// introduce makes a socket of its own and hands the other end to the service.
func introduce(intro *os.File) (*net.UnixConn, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket: %w", err)
	}
	mine := os.NewFile(uintptr(pair[0]), "walker")
	defer func() { _ = mine.Close() }()
	err = unix.Sendmsg(int(intro.Fd()), []byte{0}, unix.UnixRights(pair[1]), nil, unix.MSG_NOSIGNAL)
	_ = unix.Close(pair[1])
	if err != nil {
		return nil, fmt.Errorf("report to the service: %w", err)
	}
	c, err := net.FileConn(mine)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.New("internal error: a socket pair is no unix socket")
	}
	return u, nil
}

// walker is the half that reads a container.
type walker struct {
	conn    *net.UnixConn
	call    ContainerCall
	options tree.Options
	log     Log

	mu  sync.Mutex // of what follows
	out *bufio.Writer
	buf []byte

	fds []int // that came with the go
}

func (w *walker) work(ctx context.Context) error {
	if err := writeJSON(w.conn, frameCall, w.call); err != nil {
		return fmt.Errorf("report to the service: %w", err)
	}
	in := bufio.NewReader(rights{w})
	for {
		kind, payload, err := readFrame(in, nil)
		if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) {
			err = errors.New("the service has ended")
		}
		if err != nil {
			return err
		}
		switch kind {
		case frameLog:
			var l logFrame
			if err := json.Unmarshal(payload, &l); err != nil {
				return fmt.Errorf("%w: %w", errFrame, err)
			}
			w.log(l.Level, l.Message)
		case frameGo:
			var g goFrame
			if err := json.Unmarshal(payload, &g); err != nil {
				return fmt.Errorf("%w: %w", errFrame, err)
			}
			if err := w.archive(ctx, g); err != nil {
				w.log(Info, "the walk has ended: "+err.Error()) // the answer says why
			}
		case frameDone:
			var d doneFrame
			if err := json.Unmarshal(payload, &d); err != nil {
				return fmt.Errorf("%w: %w", errFrame, err)
			}
			if d.Error != "" {
				return &RemoteError{Kind: d.Kind, Message: d.Error}
			}
			return nil
		default:
			return fmt.Errorf("%w: frame %q", errFrame, kind)
		}
	}
}

// rights reads from the socket and keeps descriptors that come along.
type rights struct{ w *walker }

func (r rights) Read(p []byte) (int, error) {
	oob := make([]byte, unix.CmsgSpace(2*4))
	n, oobn, _, _, err := r.w.conn.ReadMsgUnix(p, oob)
	if err != nil {
		return 0, err // n is -1 then
	}
	if oobn > 0 {
		fds, err := descriptors(oob[:oobn])
		if err != nil {
			return n, err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
		}
		r.w.fds = append(r.w.fds, fds...)
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (w *walker) closeBase() {
	closeAll(w.fds)
	w.fds = nil
}

// archive reads the tree and sends it.
func (w *walker) archive(ctx context.Context, g goFrame) error {
	o := w.options
	o.Problem = func(p tree.Problem) { w.log(Warn, p.String()) }
	if g.Base {
		base, closeBase, err := w.base()
		if err != nil {
			return w.fail(err)
		}
		defer closeBase()
		o.Base = base
	}
	out := tree.Output{Meta: stream{w, frameMeta}}
	if g.Split {
		out.Payload = payload{stream{w, framePayload}}
	}
	rep, err := tree.Archive(ctx, w.call.Info.Directory, out, o)
	if err != nil {
		return w.fail(err)
	}
	if rep.BaseError != nil {
		w.log(Info, "more was read than needed: "+rep.BaseError.Error())
		rep.BaseError = nil // an error is not JSON
	}
	text, err := json.Marshal(rep)
	if err != nil {
		return err
	}
	if err := w.frame(frameEnd, text); err != nil {
		return err
	}
	return w.flush()
}

// fail tells the service why it ends, if that is not the service's own doing.
func (w *walker) fail(err error) error {
	_ = w.frame(frameFailed, []byte(err.Error()))
	_ = w.flush()
	return err
}

// base opens what came with the go.
func (w *walker) base() (*tree.Base, func(), error) {
	if len(w.fds) != 2 {
		return nil, nil, fmt.Errorf("%w: %d descriptors with a base", errFrame, len(w.fds))
	}
	meta := os.NewFile(uintptr(w.fds[0]), "metadata of the archive before")
	index := os.NewFile(uintptr(w.fds[1]), "index of the archive before")
	w.fds = nil
	closeBoth := func() { _ = meta.Close(); _ = index.Close() }
	info, err := index.Stat()
	if err != nil {
		closeBoth()
		return nil, nil, err
	}
	x, err := didx.Open(index, info.Size())
	if err != nil {
		closeBoth()
		return nil, nil, err
	}
	r, err := pxar.NewReader(bufio.NewReaderSize(meta, 64<<10), nil)
	if err != nil {
		closeBoth()
		return nil, nil, err
	}
	return &tree.Base{Meta: r, Payload: x}, closeBoth, nil
}

func (w *walker) frame(kind byte, parts ...[]byte) (err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.buf, err = appendFrame(w.buf[:0], kind, parts...); err != nil {
		return err
	}
	_, err = w.out.Write(w.buf)
	return err
}

func (w *walker) flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Flush()
}

// stream is a part of the archive on its way to the service.
type stream struct {
	w    *walker
	kind byte
}

// maxPiece is how much data is in one frame at most, in bytes.
const maxPiece = 1 << 20

func (s stream) Write(p []byte) (n int, err error) {
	for n < len(p) {
		part := p[n:min(len(p), n+maxPiece)]
		if err := s.w.frame(s.kind, part); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// payload is the contents of a split archive on their way.
type payload struct{ stream }

func (p payload) Hint(off int64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(off))
	_ = p.w.frame(frameHint, b[:]) // the writer keeps its error for the next write
}

// Reuse names chunks by their numbers, which the index has in place of digests.
func (p payload) Reuse(at int64, chunks []tree.Chunk) error {
	b := make([]byte, 8, 8+4*len(chunks))
	binary.LittleEndian.PutUint64(b, uint64(at))
	for _, c := range chunks {
		b = append(b, c.Digest[:4]...)
	}
	return p.w.frame(frameReuse, b)
}

// options are those of the walk: as a backup of a container is made everywhere,
// with one file system for each mount point that belongs to it.
func (c ContainerCall) options() (tree.Options, error) {
	o := tree.Options{SkipLostAndFound: true}
	for _, text := range c.Exclude {
		p, err := exclude.Parse(text, exclude.Exclude)
		if err != nil {
			return o, usagef("exclude pattern: %v", err)
		}
		o.Exclude = append(o.Exclude, p)
	}
	for _, s := range c.Info.Sources {
		if !filepath.IsLocal(s) {
			return o, usagef("source %q is not below the directory of the container", s)
		}
		if s = filepath.Clean(s); s != "." {
			o.IncludeDev = append(o.IncludeDev, filepath.Join(c.Info.Directory, s))
		}
	}
	return o, nil
}
