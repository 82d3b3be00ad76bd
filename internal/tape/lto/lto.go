package lto

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/tape"
)

// Config is how a drive is used.
type Config struct {
	// Encrypter brings keys into the drive; nil: there are none.
	Encrypter tape.Encrypter
	// Load has a medium that lies in the drive loaded first. With a changer it
	// is wanted: some drives wait for it.
	Load bool
	// Version of this program, for the memory of cartridges.
	Version string
}

// Drive is an open drive. Its errors are those of package tape.
type Drive struct {
	t   scsi.Transport
	cfg Config
	id  scsi.Identity

	ready  bool
	lost   error // why the medium may not be the one that was there; nil: it is
	unsure error // why nobody knows the position; nil: it is at
	at     Position
	begin  Position // of the file whose beginning was met last

	locate locator
	keyed  bool // a key may be in the drive

	cdb [6]byte // of the block that is being moved
}

var (
	_ tape.Drive   = (*Drive)(nil)
	_ tape.Meter   = (*Drive)(nil)
	_ tape.Alerter = (*Drive)(nil)
	_ tape.Marker  = (*Drive)(nil)
)

// New makes sure that t leads to a tape drive, whatever its state. With success
// t belongs to the drive, which closes it.
func New(t scsi.Transport, cfg Config) (*Drive, error) {
	id, err := scsi.Identify(t)
	if err != nil {
		return nil, err
	}
	if id.Type != scsi.TypeTape {
		return nil, fmt.Errorf("%s %s is no tape drive, but: %s", id.Vendor, id.Product, id.Type)
	}
	return &Drive{t: t, cfg: cfg, id: id, unsure: errors.New("the drive was not made ready")}, nil
}

// Open makes sure that t leads to a tape drive and waits until its medium can be
// used; tape.ErrNoMedium if there is none.
func Open(ctx context.Context, t scsi.Transport, cfg Config) (*Drive, error) {
	d, err := New(t, cfg)
	if err != nil {
		return nil, err
	}
	if err := d.Ready(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

// Identity is who the drive says that it is.
func (d *Drive) Identity() scsi.Identity { return d.id }

// Close takes the key out of the drive and lets go of it. The medium stays.
func (d *Drive) Close() error {
	var err error
	if d.keyed {
		err = d.clearKey()
	}
	return errors.Join(err, d.t.Close())
}
