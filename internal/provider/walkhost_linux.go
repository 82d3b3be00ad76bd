package provider

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/throttle"
	"github.com/holdfast-backup/holdfast/internal/tree"
	"golang.org/x/sys/unix"
)

// walk lets the walker work, and passes on what comes from it.
func (h *walking) walk(rate int64) Walk {
	limit := throttle.New(rate)
	return func(ctx context.Context, out tree.Output, base *Base) (_ tree.Report, err error) {
		if out.Catalog != nil {
			return tree.Report{}, errors.New("internal error: the walk of a container writes no catalog")
		}
		end, err := h.begin(goFrame{Split: out.Payload != nil, Base: base != nil}, base)
		if err != nil {
			return tree.Report{}, err
		}
		defer func() {
			if berr := end(); err == nil && berr != nil {
				err = fmt.Errorf("the archive before: %w", berr)
			}
		}()
		for {
			kind, payload, err := h.next()
			if err != nil {
				return tree.Report{}, err
			}
			if kind == frameEnd {
				var rep tree.Report
				if err := json.Unmarshal(payload, &rep); err != nil {
					return rep, fmt.Errorf("%w: %w", errFrame, err)
				}
				return rep, nil
			}
			if err := limit.Wait(ctx, len(payload)); err != nil {
				return tree.Report{}, err
			}
			if err := h.pass(kind, payload, out, base); err != nil {
				return tree.Report{}, err
			}
		}
	}
}

// pass passes one frame on.
func (h *walking) pass(kind byte, payload []byte, out tree.Output, base *Base) error {
	if out.Payload == nil && (kind == framePayload || kind == frameHint || kind == frameReuse) {
		return fmt.Errorf("%w: frame %q in an archive of one part", errFrame, kind)
	}
	switch kind {
	case frameMeta:
		_, err := out.Meta.Write(payload)
		return err
	case framePayload:
		_, err := out.Payload.Write(payload)
		return err
	case frameHint, frameReuse:
		if len(payload) < 8 || binary.LittleEndian.Uint64(payload) > math.MaxInt64 {
			return fmt.Errorf("%w: frame %q of %d bytes", errFrame, kind, len(payload))
		}
		at := int64(binary.LittleEndian.Uint64(payload))
		if kind == frameHint {
			out.Payload.Hint(at)
			return nil
		}
		chunks, err := lookUp(base, payload[8:])
		if err != nil {
			return err
		}
		return out.Payload.Reuse(at, chunks)
	case frameFailed:
		return errors.New(string(payload))
	}
	return fmt.Errorf("%w: frame %q", errFrame, kind)
}

// lookUp turns numbers into chunks of the base.
func lookUp(base *Base, numbers []byte) ([]tree.Chunk, error) {
	if base == nil || len(numbers)%4 != 0 {
		return nil, fmt.Errorf("%w: %d bytes of chunk numbers", errFrame, len(numbers))
	}
	chunks := make([]tree.Chunk, 0, len(numbers)/4)
	for ; len(numbers) > 0; numbers = numbers[4:] {
		i := int64(binary.LittleEndian.Uint32(numbers))
		if i >= int64(base.Payload.Count()) {
			return nil, fmt.Errorf("%w: chunk %d of %d", errFrame, i, base.Payload.Count())
		}
		e, err := base.Payload.Entry(int(i))
		if err != nil {
			return nil, err
		}
		start, end, err := base.Payload.Bounds(int(i))
		if err != nil {
			return nil, err
		}
		chunks = append(chunks, tree.Chunk{Digest: e.Digest, Length: int(end - start)})
	}
	return chunks, nil
}

// begin sends the go, with the base. end must be called.
func (h *walking) begin(g goFrame, base *Base) (end func() error, err error) {
	if base == nil {
		return func() error { return nil }, h.send(frameGo, g)
	}
	index, err := numberedIndex(h.dir, base.Payload)
	if err != nil {
		return nil, err
	}
	defer func() { _ = index.Close() }()
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	if err := h.sendBase(g, r, index); err != nil {
		_ = w.Close()
		return nil, err
	}
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(w, base.Meta)
		if errors.Is(err, unix.EPIPE) || errors.Is(err, os.ErrClosed) {
			err = nil // the walker has seen enough
		}
		copied <- errors.Join(err, closed(w))
	}()
	return func() error {
		_ = w.Close() // wakes a copy that nobody reads
		return <-copied
	}, nil
}

func closed(f *os.File) error {
	if err := f.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// sendBase sends the go with the descriptors of the metadata and the index.
func (h *walking) sendBase(g goFrame, meta, index *os.File) error {
	text, err := json.Marshal(g)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	// The descriptors come with the first byte.
	var frame []byte
	if frame, err = appendFrame(nil, frameGo, text); err != nil {
		return err
	}
	rights := unix.UnixRights(int(meta.Fd()), int(index.Fd()))
	n, _, err := h.conn.WriteMsgUnix(frame, rights, nil)
	if err == nil && n < len(frame) {
		_, err = h.conn.Write(frame[n:])
	}
	return err
}

// numberedIndex is an index with the same chunks, named by their numbers, in a
// file without a name.
func numberedIndex(dir string, x *didx.Index) (_ *os.File, err error) {
	f, err := os.CreateTemp(dir, "base-*.didx")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	if err := os.Remove(f.Name()); err != nil {
		return nil, err
	}
	w := bufio.NewWriterSize(f, 64<<10)
	if _, err := w.Write(x.Header.Append(nil)); err != nil {
		return nil, err
	}
	var buf [didx.EntrySize]byte
	err = x.Each(func(i int, _, end int64, _ digest.Digest) error {
		var number digest.Digest
		binary.LittleEndian.PutUint32(number[:], uint32(i))
		_, err := w.Write(didx.Entry{End: uint64(end), Digest: number}.Append(buf[:0]))
		return err
	})
	if err == nil {
		err = w.Flush()
	}
	return f, err
}
