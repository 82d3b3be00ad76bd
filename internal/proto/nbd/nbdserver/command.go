package nbdserver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

func willNeed(x *export, off, n int64) { image.WillNeed(x.Image, off, n) }

// check says why a request cannot be, from its header alone.
func (c *conn) check(r nbd.Request) error {
	x := c.exp
	var flags nbd.CommandFlags
	if x.dev != nil {
		flags = nbd.FlagFUA
	}
	outside := nbd.EINVAL
	ranged, changes := true, false
	switch r.Type {
	case nbd.CmdRead:
		if c.mode != nbd.Simple {
			flags |= nbd.FlagDF
		}
	case nbd.CmdWrite:
		changes, outside = true, nbd.ENOSPC
		if c.mode == nbd.Extended {
			flags |= nbd.FlagPayloadLen
		}
	case nbd.CmdFlush:
		ranged = false
	case nbd.CmdTrim:
		changes = true
	case nbd.CmdCache:
	case nbd.CmdWriteZeroes:
		changes, outside = true, nbd.ENOSPC
		flags |= nbd.FlagNoHole | nbd.FlagFastZero
	case nbd.CmdBlockStatus:
		flags |= nbd.FlagReqOne
		if c.mode == nbd.Extended {
			flags |= nbd.FlagPayloadLen
		}
		ranged = r.Flags&nbd.FlagPayloadLen == 0 // otherwise the length comes later
	default:
		return refusal(nbd.EINVAL, "command %s is not known", r.Type)
	}
	switch {
	case r.Flags&^flags != 0 && r.Flags&^flags == nbd.FlagFUA && changes:
		return refusal(nbd.EPERM, "the export is read-only")
	case r.Flags&^flags != 0:
		return refusal(nbd.EINVAL, "flags %#x are not for %s", uint16(r.Flags&^flags), r.Type)
	case changes && x.dev == nil:
		return refusal(nbd.EPERM, "the export is read-only")
	case r.Type == nbd.CmdWrite && c.mode == nbd.Extended && r.Flags&nbd.FlagPayloadLen == 0:
		return refusal(nbd.EINVAL, "WRITE without PAYLOAD_LEN")
	case ranged && !x.contains(r.Offset, r.Length):
		return refusal(outside, "%s of %d bytes at %d reaches behind the end of %d bytes", r.Type, r.Length, r.Offset, x.size)
	case r.Type == nbd.CmdRead && r.Length > nbd.MaxPayload && r.Flags&nbd.FlagDF != 0:
		return refusal(nbd.EOVERFLOW, "READ of %d bytes, at most %d", r.Length, nbd.MaxPayload)
	case r.Type == nbd.CmdRead && r.Length > nbd.MaxPayload:
		return refusal(nbd.EINVAL, "READ of %d bytes, at most %d", r.Length, nbd.MaxPayload)
	case r.Type == nbd.CmdBlockStatus && len(c.contexts) == 0:
		return refusal(nbd.EINVAL, "no metadata context was selected")
	}
	return nil
}

func refusal(e nbd.Errno, format string, args ...any) error {
	return &nbd.Error{Errno: e, Text: fmt.Sprintf(format, args...)}
}

// worker executes requests that may wait. It keeps its scratch memory.
type worker struct {
	*conn
	pieces []piece
	extent []nbd.Extent
	status []byte
}

func (w *worker) do(j job) {
	switch j.req.Type {
	case nbd.CmdRead:
		w.read(j)
		return
	case nbd.CmdBlockStatus:
		w.blockStatus(j)
		return
	}
	err := w.change(j)
	if j.buf != nil {
		w.s.pool.put(&w.mem, j.buf)
	}
	w.answer(j.req, err)
}

// answer ends a request that has no data to return.
func (w *worker) answer(r nbd.Request, err error) {
	if err != nil {
		w.note(r, err)
	}
	b := w.out.begin()
	if err != nil {
		b.head = w.appendError(b.head, r, err)
	} else {
		b.head = w.appendDone(b.head, r)
	}
	w.out.end()
}

// note counts and logs a failure of the image.
func (c *conn) note(r nbd.Request, err error) {
	c.exp.count.failed()
	log := c.log.Debug
	c.failed.Do(func() { log = c.log.Warn })
	log("nbd request failed", "export", c.exp.Name, "command", r.Type, "offset", r.Offset, "bytes", r.Length, "error", err)
}

// change executes what changes a device.
func (w *worker) change(j job) error {
	x, r := w.exp, j.req
	off := int64(r.Offset)
	n := int64(r.Length)
	var err error
	switch r.Type {
	case nbd.CmdFlush:
		x.count.flushes.Add(1)
		if x.dev == nil {
			return nil
		}
		return x.dev.Flush()
	case nbd.CmdWrite:
		x.count.writes.Add(1)
		x.count.written.Add(n)
		if n > 0 {
			err = x.write(j.buf.Bytes()[:n], off)
		}
	case nbd.CmdTrim:
		x.count.trims.Add(1)
		if n = x.clip(off, n); n > 0 {
			err = x.dev.Discard(off, n)
		}
	case nbd.CmdWriteZeroes:
		x.count.zeroes.Add(1)
		if n = x.clip(off, n); n > 0 {
			err = x.zero(w.ctx, off, n, r.Flags)
		}
	}
	if err == nil && r.Flags&nbd.FlagFUA != 0 {
		err = x.dev.Flush()
	}
	return err
}

// write writes what is not padding, which must stay zero.
func (x *export) write(p []byte, off int64) error {
	n := x.clip(off, int64(len(p)))
	for _, c := range p[n:] {
		if c != 0 {
			return refusal(nbd.ENOSPC, "the image ends at %d; what is behind it up to %d is padding", x.real, x.size)
		}
	}
	if n == 0 {
		return nil
	}
	_, err := x.dev.WriteAt(p[:n], off)
	return err
}

var zeros [256 << 10]byte

// zero makes a range zero, with NO_HOLE by writing.
func (x *export) zero(ctx context.Context, off, n int64, f nbd.CommandFlags) error {
	if f&nbd.FlagNoHole == 0 {
		return x.dev.Zero(off, n)
	}
	if f&nbd.FlagFastZero != 0 {
		return refusal(nbd.ENOTSUP, "zeros that take space are written")
	}
	for n > 0 {
		if ctx.Err() != nil {
			return refusal(nbd.ESHUTDOWN, "the connection ends")
		}
		k := min(n, int64(len(zeros)))
		if _, err := x.dev.WriteAt(zeros[:k], off); err != nil {
			return err
		}
		off, n = off+k, n-k
	}
	return nil
}

// appendDone appends a reply without data.
func (c *conn) appendDone(b []byte, r nbd.Request) []byte {
	if c.mode == nbd.Simple {
		return nbd.SimpleReply{Cookie: r.Cookie}.Append(b)
	}
	return nbd.Chunk{Flags: nbd.FlagDone, Cookie: r.Cookie, Offset: r.Offset}.Append(b, c.mode)
}

// appendError appends a reply that says what went wrong.
func (c *conn) appendError(b []byte, r nbd.Request, err error) []byte {
	f := nbd.ChunkFailure{Error: nbd.Error{Errno: nbd.ErrnoOf(err)}}
	if c.mode == nbd.Simple {
		return nbd.SimpleReply{Errno: f.Errno, Cookie: r.Cookie}.Append(b)
	}
	if e, ok := errors.AsType[*nbd.Error](err); ok && e.Text != "" {
		f.Text = e.Text
	} else {
		f.Text = err.Error()
	}
	f.Text = wireText(f.Text)
	t := nbd.ChunkError
	n := 6 + len(f.Text)
	if at, ok := errors.AsType[*placeError](err); ok {
		t, n, f.Offset = nbd.ChunkErrorOffset, n+8, at.off
	}
	b = nbd.Chunk{Flags: nbd.FlagDone, Type: t, Cookie: r.Cookie, Offset: r.Offset, Length: uint64(n)}.Append(b, c.mode)
	return f.Append(b, t)
}

// wireText makes an error's text fit for the wire.
func wireText(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "\x00", "?")
	if len(s) <= 1024 {
		return s
	}
	n := 1024
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// placeError is a failure of a read with the first byte that could not be had.
type placeError struct {
	off uint64
	err error
}

func (e *placeError) Error() string { return e.err.Error() }
func (e *placeError) Unwrap() error { return e.err }
