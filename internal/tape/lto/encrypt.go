package lto

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/drivecrypt"
)

// Encrypt makes the drive encrypt with the key of a media set; nil switches it
// off. What was written before stays as it was. Where the library decides,
// switching off does nothing.
func (d *Drive) Encrypt(ctx context.Context, k *tape.KeyOf) error {
	if d.lost != nil {
		return d.lost
	}
	if k == nil {
		return d.clearKey()
	}
	if d.cfg.Encrypter == nil {
		return fmt.Errorf("the drive was opened without keys: %w", tape.ErrKey)
	}
	d.keyed = true // even if that fails: nobody knows what the drive has then
	return d.asking(func() error { return d.cfg.Encrypter.SetKey(ctx, d.t, *k) })
}

// clearKey takes a key out of the drive. One that cannot encrypt, or whose
// library decides, has none to take out, unless it was given one.
func (d *Drive) clearKey() error {
	err := d.asking(func() error { return drivecrypt.Clear(d.t) })
	if err != nil && (d.keyed || !errors.Is(err, tape.ErrUnsupported)) {
		return fmt.Errorf("take the key out of the drive: %w", err)
	}
	d.keyed = false
	return nil
}

// Encryption asks what the drive does.
func (d *Drive) Encryption() (s drivecrypt.State, err error) {
	err = d.asking(func() (err error) {
		s, err = drivecrypt.Current(d.t)
		return err
	})
	return s, err
}

// NextBlock asks whether what comes next is encrypted, and can be read.
func (d *Drive) NextBlock() (n drivecrypt.Next, err error) {
	err = d.asking(func() (err error) {
		n, err = drivecrypt.NextBlock(d.t)
		return err
	})
	return n, err
}
