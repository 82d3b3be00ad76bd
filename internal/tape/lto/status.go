package lto

import (
	"context"
	"time"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/tape/lto/logpage"
	"github.com/holdfast-backup/holdfast/internal/tape/lto/mam"
)

// Status is the state of a drive and of its medium, with the fields of PBS.
// What is of the medium is left out where there is none.
type Status struct {
	Vendor   string         `json:"vendor"`
	Product  string         `json:"product"`
	Revision string         `json:"revision"`
	Activity *logpage.Doing `json:"drive-activity,omitempty"`
	Options
	Density      Density `json:"density"`
	WriteProtect bool    `json:"write-protect,omitempty"`
	WORM         bool    `json:"worm,omitempty"`
	AlertFlags   string  `json:"alert-flags,omitempty"`

	FileNumber  *uint64 `json:"file-number,omitempty"`
	BlockNumber *uint64 `json:"block-number,omitempty"`

	Manufactured  *int64   `json:"manufactured,omitempty"` // seconds since 1970
	BytesRead     *uint64  `json:"bytes-read,omitempty"`   // in the life of the medium
	BytesWritten  *uint64  `json:"bytes-written,omitempty"`
	VolumeMounts  *uint64  `json:"volume-mounts,omitempty"`
	MediumPasses  *uint64  `json:"medium-passes,omitempty"`
	MediumWearout *float64 `json:"medium-wearout,omitempty"` // 1: the end of its life
}

// Status asks for the state, without waiting for a medium.
func (d *Drive) Status(ctx context.Context) (Status, error) {
	s := Status{Vendor: d.id.Vendor, Product: d.id.Product, Revision: d.id.Revision}
	if a, err := d.Activity(); err == nil {
		s.Activity = &a
	}
	ready := d.asking(func() error { return scsi.CheckReady(d.t) }) == nil
	m, err := d.readMode()
	if err != nil {
		return Status{}, err
	}
	s.Options, s.Density = m.Options, m.density
	if a, err := d.Alerts(ctx); err == nil {
		s.AlertFlags = a.String()
	}
	if !ready {
		return s, nil
	}
	s.WriteProtect = m.writeProtect
	p, err := d.Position()
	if err != nil {
		return Status{}, err
	}
	s.FileNumber, s.BlockNumber = &p.File, &p.Object
	if s.WORM, err = d.WORM(); err != nil {
		return Status{}, err
	}
	d.wear(&s)
	return s, nil
}

// wear adds what the cartridge has been through, as far as drive and cartridge
// know it.
func (d *Drive) wear(s *Status) {
	all, err := d.attributes()
	if err != nil {
		return
	}
	for _, a := range all {
		switch a.ID {
		case mam.LifeRead:
			s.BytesRead = new(mam.Number(a.Value) << 20)
		case mam.LifeWritten:
			s.BytesWritten = new(mam.Number(a.Value) << 20)
		case mam.Manufactured:
			if len(a.Value) >= 8 {
				if t, err := time.Parse("20060102", string(a.Value[:8])); err == nil {
					s.Manufactured = new(t.Unix())
				}
			}
		}
	}
	if v, err := d.Volume(); err == nil {
		s.VolumeMounts, s.MediumPasses, s.MediumWearout = new(v.Mounts), new(v.Passes()), new(v.Wearout())
	}
}
