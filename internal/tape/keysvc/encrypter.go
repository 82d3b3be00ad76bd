package keysvc

import (
	"context"
	"errors"
	"io/fs"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/drivecrypt"
)

// Encrypter brings keys into drives: those that this process may read by
// itself, and others by the service.
type Encrypter struct {
	Keys    tape.Keys
	Service Client
}

var _ tape.Encrypter = Encrypter{}

// SetKey implements [tape.Encrypter].
func (e Encrypter) SetKey(ctx context.Context, t scsi.Transport, k tape.KeyOf) error {
	err := drivecrypt.Local{Keys: e.Keys}.SetKey(ctx, t, k)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	serr := e.Service.SetKey(ctx, t, k)
	if errors.Is(serr, fs.ErrNotExist) { // no socket: then what matters is that the keys cannot be read
		return errors.Join(err, serr)
	}
	return serr
}
