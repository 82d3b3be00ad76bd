package vm

import (
	"bytes"
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
// is [ErrPassphrase] if something is locked and nothing was opened.
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
		if err := d.items(ctx, "list", inside.CallFor(p), func(inside.Item) error { return nil }); errors.Is(err, ErrLocked) {
			if more, err = try(p); err != nil {
				return err
			}
		}
	}
	if opened == 0 && len(wrong) > 0 {
		return fmt.Errorf("%w: tried on %v", ErrPassphrase, wrong)
	}
	return nil
}

func (c *Client) unlockOne(ctx context.Context, d *Driver, p filerestore.Path, passphrase []byte) error {
	body, err := c.call(ctx, http.MethodPost, "header", inside.CallFor(p))
	if err != nil {
		return err
	}
	defer body.Close()
	head, err := io.ReadAll(io.LimitReader(body, inside.HeaderSize))
	if err != nil {
		return err
	}
	v, err := luks.Unlock(bytes.NewReader(head), passphrase)
	if err != nil {
		return err
	}
	call := inside.CallFor(p)
	call.Crypt = &inside.Crypt{Cipher: v.Cipher, Key: v.Key, Offset: v.Offset, SectorSize: v.SectorSize}
	return d.items(ctx, "unlock", call, func(inside.Item) error { return nil })
}
