package backupserver

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/backupv1"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
)

// receive reads a body that must have exactly n bytes. Memory is taken when the
// first of them are there.
func (b *Session) receive(r *http.Request, n int) (*body, error) {
	var head [blob.HeaderSize]byte
	got, err := io.ReadFull(r.Body, head[:min(n, len(head))])
	if err != nil {
		return nil, short(got, n, err)
	}
	mem, err := b.conf.Memory.take(r.Context(), n)
	if err != nil {
		return nil, err
	}
	got = copy(mem.data, head[:])
	more, err := io.ReadFull(r.Body, mem.data[got:])
	if got += more; err == nil {
		err = atEnd(r.Body, n)
	} else {
		err = short(got, n, err)
	}
	if err != nil {
		mem.release()
		return nil, err
	}
	mem.arrived()
	return mem, nil
}

func short(got, n int, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the body has %d bytes, encoded-size says %d", got, n)
	}
	return fmt.Errorf("read the body: %w", err)
}

func atEnd(r io.Reader, n int) error {
	var one [1]byte
	switch k, err := io.ReadFull(r, one[:]); {
	case k > 0:
		return fmt.Errorf("the body is longer than encoded-size says, %d bytes", n)
	case errors.Is(err, io.EOF):
		return nil
	default:
		return fmt.Errorf("read the body: %w", err)
	}
}

// blob stores a small file, or keeps the manifest until the end.
func (b *Session) blob(_ http.ResponseWriter, r *http.Request) (any, error) {
	p, err := rest.Query(r)
	if err != nil {
		return nil, err
	}
	call, err := backupv1.ParseBlob(p)
	if err != nil {
		return nil, err
	}
	mem, err := b.receive(r, call.Encoded)
	if err != nil {
		return nil, err
	}
	defer mem.release()
	if _, err := blob.Check(mem.data); err != nil {
		return nil, fmt.Errorf("blob %s: %w", call.Name, err)
	}
	err = b.change(func() error { return b.putBlob(r.Context(), call.Name, mem.data) })
	if err == nil {
		b.log("add blob %q (%d bytes)", call.Name, call.Encoded)
	}
	return nil, err
}

func (b *Session) putBlob(ctx context.Context, name names.Archive, raw []byte) error {
	if name == names.Manifest {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.manifest = slices.Clone(raw)
		return nil
	}
	if err := b.ses.PutBlob(ctx, name, raw); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.files[name] = file{uint64(len(raw)), digest.Of(raw)}
	return nil
}

func (b *Session) fixedChunk(_ http.ResponseWriter, r *http.Request) (any, error) {
	return b.chunk(r, names.Fidx)
}

func (b *Session) dynamicChunk(_ http.ResponseWriter, r *http.Request) (any, error) {
	return b.chunk(r, names.Didx)
}

// chunk stores a chunk; from then on it is known.
func (b *Session) chunk(r *http.Request, kind names.Kind) (any, error) {
	p, err := rest.Query(r)
	if err != nil {
		return nil, err
	}
	call, err := backupv1.ParseUpload(p)
	if err != nil {
		return nil, err
	}
	w, err := b.writer(call.Wid, kind)
	if err != nil {
		return nil, err
	}
	mem, err := b.receive(r, call.Encoded)
	if err != nil {
		return nil, err
	}
	defer mem.release()
	err = b.conf.Memory.work(r.Context(), func(k *worker) error {
		if err := k.check(call, mem.data); err != nil {
			return err
		}
		return b.change(func() error { return b.putChunk(r.Context(), w, call, mem.data) })
	})
	if err != nil {
		return nil, err
	}
	return call.Digest.String(), nil
}

func (b *Session) putChunk(ctx context.Context, w *writer, call backupv1.Upload, raw []byte) error {
	if err := w.admit(call.Size); err != nil {
		return err
	}
	if _, err := b.ses.Put(ctx, call.Digest, call.Size, raw); err != nil {
		w.dismiss(call.Size)
		return err
	}
	b.known.add(call.Digest, call.Size)
	return nil
}

// check makes sure that a chunk is what it is called, as far as that can be
// known, and gives it the right CRC: what clients send as such is not relied on.
func (k *worker) check(call backupv1.Upload, raw []byte) error {
	h, err := blob.ParseHeader(raw)
	if err != nil {
		return fmt.Errorf("chunk %s: %w", call.Digest, err)
	}
	h.CRC = crc32.ChecksumIEEE(raw[h.Size:])
	var head [blob.EncryptedHeaderSize]byte
	copy(raw, h.Append(head[:0]))
	if h.Kind.Encrypted() {
		return nil
	}
	k.pairs.begin()
	plain, err := k.dec.Append(k.plain.Bytes()[:0], raw, call.Size)
	if err == nil && len(plain) != call.Size {
		err = fmt.Errorf("it has %d bytes, size says %d", len(plain), call.Size)
	}
	if err != nil {
		k.pairs.giveUp()
		return fmt.Errorf("chunk %s: %w", call.Digest, err)
	}
	if sum := k.pairs.digest(plain); sum != call.Digest {
		return fmt.Errorf("chunk %s: wrong chunk digest, its data is called %s", call.Digest, sum)
	}
	return nil
}
