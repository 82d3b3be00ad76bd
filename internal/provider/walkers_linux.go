package provider

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Walkers is the place where walkers report: a socket whose other end they
// inherit. What they have in a container's user namespace opens no path and no
// socket of the host's, but a descriptor works.
//
// The other end is shared with the processes between, so nothing on it tells
// when a walker dies. It only carries one end of a socket that each walker makes.
type Walkers struct {
	intro *net.UnixConn
	dir   string // for the index of a base
}

// NewWalkers takes over the descriptor, a unix socket of type seqpacket. dir is
// for temporary files.
func NewWalkers(f *os.File, dir string) (*Walkers, error) {
	defer func() { _ = f.Close() }()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("the descriptor for walkers: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close()
		return nil, errors.New("the descriptor for walkers is no unix socket")
	}
	return &Walkers{intro: u, dir: dir}, nil
}

// Serve serves walkers until ctx ends, and waits for those that it serves.
func (w *Walkers) Serve(ctx context.Context, s *Service) error {
	var all sync.WaitGroup
	defer all.Wait()
	defer context.AfterFunc(ctx, func() { _ = w.intro.Close() })()
	for {
		f, err := receiveFile(w.intro)
		switch {
		case ctx.Err() != nil, errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("the descriptor for walkers: %w", err)
		}
		c, err := net.FileConn(f)
		_ = f.Close()
		if err != nil {
			return fmt.Errorf("the descriptor of a walker: %w", err)
		}
		u, ok := c.(*net.UnixConn)
		if !ok {
			_ = c.Close()
			continue
		}
		all.Go(func() { w.serve(ctx, s, u) })
	}
}

// receiveFile receives the one descriptor of a message.
func receiveFile(c *net.UnixConn) (*os.File, error) {
	body, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := c.ReadMsgUnix(body, oob)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	fds, err := descriptors(oob[:oobn])
	if err != nil {
		return nil, err
	}
	if len(fds) != 1 {
		closeAll(fds)
		return nil, fmt.Errorf("%w: a message with %d descriptors", errFrame, len(fds))
	}
	unix.CloseOnExec(fds[0])
	return os.NewFile(uintptr(fds[0]), "walker"), nil
}

func descriptors(oob []byte) (fds []int, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		more, err := unix.ParseUnixRights(&m)
		if err != nil {
			closeAll(fds)
			return nil, err
		}
		fds = append(fds, more...)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// serve does the backup that one walker asks for. What went wrong goes to the
// walker, whose caller shows it.
func (w *Walkers) serve(ctx context.Context, s *Service, c *net.UnixConn) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	h := &walking{conn: c, in: bufio.NewReaderSize(c, 256<<10), dir: w.dir}
	defer func() { _ = c.Close() }()
	defer context.AfterFunc(ctx, func() { _ = c.CloseRead() })()
	err := h.backup(ctx, s)
	done := doneFrame{}
	if err != nil {
		done.Kind, done.Error = kindOf(err), err.Error()
	}
	_ = h.send(frameDone, done) // a walker that is gone needs no answer
}

// walking is the service's half of one walk.
type walking struct {
	conn *net.UnixConn
	in   *bufio.Reader
	dir  string
	buf  []byte

	mu sync.Mutex // of writes to conn
}

func (h *walking) send(kind byte, v any) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return writeJSON(h.conn, kind, v)
}

func (h *walking) log(level Level, text string) {
	_ = h.send(frameLog, logFrame{level, text}) // a walker that is gone is noticed elsewhere
}

// next reads a frame, which is valid until the next one.
func (h *walking) next() (kind byte, payload []byte, err error) {
	kind, payload, err = readFrame(h.in, h.buf)
	if err == nil {
		h.buf = payload[:0]
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("the process that walks the container has ended")
	}
	return kind, payload, err
}

func (h *walking) backup(ctx context.Context, s *Service) error {
	kind, payload, err := h.next()
	if err != nil {
		return err
	}
	if kind != frameCall {
		return fmt.Errorf("%w: frame %q before the call", errFrame, kind)
	}
	var call ContainerCall
	if err := json.Unmarshal(payload, &call); err != nil {
		return fmt.Errorf("%w: %w", errFrame, err)
	}
	h.buf = nil // the call may be long
	return s.BackupContainer(ctx, h.log, call.VMID, call.Archive, call.configs(), h.walk(call.Info.Rate))
}
