package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/filerestore"
	"github.com/holdfast-backup/holdfast/internal/filerestore/vm/inside"
	"github.com/holdfast-backup/holdfast/internal/fsread/luks"
)

// maxOpened is how many volumes are opened at a time: a stranger's disks may have as
// many as they like.
const maxOpened = 256

// Unlock tries a passphrase on every encrypted volume on the disks, their partitions and
// arrays, and on those on the way to p. Keys are derived here, where there is memory
// for that; the machine gets the key of the volume. What is open already stays so. It
// is [filerestore.ErrPassphrase] if something is locked and nothing was opened.
func (c *Client) Unlock(ctx context.Context, p filerestore.Path, passphrase []byte) error {
	d := c.Driver()
	opened, wrong := 0, []string{}
	try := func(q filerestore.Path) (bool, error) {
		if slices.Contains(wrong, q.String()) {
			return false, nil
		}
		err := c.unlockOne(ctx, d, q, passphrase)
		switch {
		case err == nil:
			opened++
			return true, nil
		case errors.Is(err, luks.ErrPassphrase):
			wrong = append(wrong, q.String())
			return false, nil
		}
		return false, fmt.Errorf("%s: %w", q, err)
	}
	for more := true; more && opened < maxOpened; {
		paths := []filerestore.Path{}
		err := d.items(ctx, "locked", inside.Call{}, func(i inside.Item) error {
			q, err := filerestore.ParsePath(string(i.Name))
			paths = append(paths, q)
			return err
		})
		if err != nil {
			return err
		}
		more = false
		for _, q := range paths {
			ok, err := try(q)
			if err != nil {
				return err
			}
			more = more || ok
		}
		if more { // what they hold may be locked, too
			continue
		}
		if err := d.items(ctx, "list", inside.CallFor(p), func(inside.Item) error { return nil }); errors.Is(err, filerestore.ErrLocked) {
			if more, err = try(p); err != nil {
				return err
			}
		}
	}
	if opened == 0 && len(wrong) > 0 {
		return fmt.Errorf("%w: tried on %v", filerestore.ErrPassphrase, wrong)
	}
	return nil
}

func (c *Client) unlockOne(ctx context.Context, d *Driver, p filerestore.Path, passphrase []byte) error {
	v, err := luks.Unlock(&header{ctx: ctx, c: c, p: p}, passphrase)
	if err != nil {
		return err
	}
	call := inside.CallFor(p)
	call.Crypt = &inside.Crypt{Cipher: v.Cipher, Key: v.Key, Offset: v.Offset, SectorSize: v.SectorSize}
	return d.items(ctx, "unlock", call, func(inside.Item) error { return nil })
}

// headerPiece is how much of a header is asked for at a time: a slot with a key, of those that
// cryptsetup makes, or what describes all of them.
const headerPiece = 512 << 10

// header is the start of an encrypted volume in the machine. It keeps one piece.
type header struct {
	ctx   context.Context //nolint:containedctx // io.ReaderAt has none
	c     *Client
	p     filerestore.Path
	at    int64 // of piece
	piece []byte
}

// ReadAt reads what a passphrase is tried on.
func (h *header) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		from := off + int64(n)
		if h.piece == nil || from < h.at || from >= h.at+int64(len(h.piece)) {
			if err := h.fetch(from &^ (headerPiece - 1)); err != nil {
				return n, err
			}
		}
		if from >= h.at+int64(len(h.piece)) {
			return n, io.EOF
		}
		n += copy(p[n:], h.piece[from-h.at:])
	}
	return n, nil
}

func (h *header) fetch(at int64) error {
	call := inside.CallFor(h.p)
	call.Offset, call.Length = at, headerPiece
	body, err := h.c.call(h.ctx, http.MethodPost, "header", call)
	if err != nil {
		return err
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, headerPiece))
	if err == nil {
		h.at, h.piece = at, b
	}
	return err
}
