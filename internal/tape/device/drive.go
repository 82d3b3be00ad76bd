package device

import (
	"context"
	"errors"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/changer"
	"github.com/holdfast-backup/holdfast/internal/tape/config"
	"github.com/holdfast-backup/holdfast/internal/tape/dirdrive"
	"github.com/holdfast-backup/holdfast/internal/tape/job"
	"github.com/holdfast-backup/holdfast/internal/tape/lto"
)

// LTO is an LTO drive outside of a station. It is locked while it is open.
type LTO struct {
	*lto.Drive
	held locks
}

// Close closes the drive, then gives back its locks.
func (d *LTO) Close() error {
	err := d.Drive.Close()
	return errors.Join(err, d.held.unlock())
}

// LTO opens an LTO drive by the path of its device, whatever its state. load says
// that a medium that a changer has put there is loaded first, when it is waited for.
func (o *Opener) LTO(ctx context.Context, path string, load bool) (*LTO, error) {
	held, err := o.hold(ctx, path)
	if err != nil {
		return nil, err
	}
	d, err := o.open(ctx, path, load)
	if err != nil {
		return nil, errors.Join(err, held.unlock())
	}
	return &LTO{d, held}, nil
}

func (o *Opener) open(ctx context.Context, path string, load bool) (*lto.Drive, error) {
	t, err := o.transport(ctx, path, scsi.TypeTape)
	if err != nil {
		return nil, err
	}
	d, err := lto.New(t, lto.Config{Encrypter: o.Encrypter, Load: load, Version: o.Version})
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return d, nil
}

// drive opens a drive that is configured and locked, with the medium that is in it.
func (o *Opener) drive(ctx context.Context, c config.DriveConfig) (tape.Drive, error) {
	if c.Virtual {
		return dirdrive.Open(ctx, c.Path, c.MaxSize)
	}
	d, err := o.open(ctx, c.Path, c.Changer != "")
	if err != nil {
		return nil, err
	}
	if err := d.Ready(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Changer opens a changer that is configured.
func (o *Opener) Changer(ctx context.Context, name string) (tape.Changer, config.ChangerConfig, error) {
	c, err := o.Config.Changer(name)
	if err != nil {
		return nil, c, err
	}
	ch, err := o.SMC(ctx, c.Path)
	if err != nil {
		return nil, c, err
	}
	return ch, c, nil
}

// SMC opens a changer by the path of its device.
func (o *Opener) SMC(ctx context.Context, path string) (*changer.Changer, error) {
	t, err := o.transport(ctx, path, scsi.TypeChanger)
	if err != nil {
		return nil, err
	}
	ch, err := changer.Open(t)
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return ch, nil
}

// Station puts a drive together with what serves it. The drive is locked until close
// lets go of both: between two media it is closed, and nobody else may load it.
func (o *Opener) Station(ctx context.Context, drive string) (s *job.Station, close func() error, err error) {
	c, err := o.Config.Drive(drive)
	if err != nil {
		return nil, nil, err
	}
	held, err := o.hold(ctx, c.Path)
	if err != nil {
		return nil, nil, err
	}
	s = &job.Station{
		Name: c.Name, Number: c.Number, ChangerName: c.Online(),
		Open: func(ctx context.Context) (tape.Drive, error) { return o.drive(ctx, c) },
	}
	switch {
	case c.Virtual:
		s.Changer = dirdrive.NewChanger(c.Path)
	case c.Changer == "":
		return s, held.unlock, nil
	default:
		ch, conf, err := o.Changer(ctx, c.Changer)
		if err != nil {
			return nil, nil, errors.Join(err, held.unlock())
		}
		s.Changer, s.Exports, s.EjectFirst = ch, conf.ExportSlots, conf.EjectFirst
	}
	return s, func() error { return errors.Join(s.Changer.Close(), held.unlock()) }, nil
}
