package libvirt

import (
	"errors"
	"fmt"

	lv "github.com/digitalocean/go-libvirt"

	"github.com/holdfast-backup/holdfast/internal/guest"
)

// ours lists the checkpoints of an owner.
func (g *Guest) ours(owner guest.Owner) ([]guest.Bitmap, error) {
	all, _, err := g.c.l.DomainListAllCheckpoints(g.dom, 1, 0)
	if err != nil {
		return nil, fmt.Errorf("list checkpoints of domain %s: %w", g.dom.Name, err)
	}
	var list []guest.Bitmap
	for _, c := range all {
		if b, err := guest.ParseBitmap(c.Name); err == nil && b.Owner() == owner {
			list = append(list, b)
		}
	}
	return list, nil
}

// usable finds out for which of some disks of the running domain a bitmap can
// be used, and makes a checkpoint of exactly these. The others get a reason.
func (g *Guest) usable(b guest.Bitmap, targets, all []string) (good []string, why map[string]string, err error) {
	if len(targets) == 0 {
		return nil, nil, nil
	}
	if err := g.redefine(b, targets, all, true); err == nil {
		return targets, nil, nil
	}
	why = map[string]string{}
	for _, t := range targets {
		switch err := g.redefine(b, []string{t}, all, true); {
		case err == nil:
			good = append(good, t)
		case is(err, lv.ErrCheckpointInconsistent):
			why[t] = message(err)
		default:
			return nil, nil, fmt.Errorf("check the bitmap %s of disk %s: %w", b, t, err)
		}
	}
	if len(good) == 0 {
		return nil, why, nil
	}
	if err := g.redefine(b, good, all, true); err != nil {
		return nil, nil, fmt.Errorf("check the bitmap %s: %w", b, err)
	}
	return good, why, nil
}

func (g *Guest) redefine(b guest.Bitmap, with, all []string, validate bool) error {
	flags := lv.DomainCheckpointCreateRedefine
	if validate {
		flags |= lv.DomainCheckpointCreateRedefineValidate
	}
	_, err := g.c.l.DomainCheckpointCreateXML(g.dom, checkpointText(b, with, all, true), uint32(flags))
	return err
}

// message is what libvirt said.
func message(err error) string {
	if e, ok := errors.AsType[lv.Error](err); ok {
		return e.Message
	}
	return err.Error()
}

// drop removes a checkpoint with its bitmaps, whether the domain runs or not.
// What is not there is no error. also are targets of disks that may have a
// bitmap of that name although the checkpoint does not say so.
func (g *Guest) drop(b guest.Bitmap, also []string) error {
	active, err := g.active()
	if err != nil {
		return err
	}
	def, err := g.c.definition(g.dom, 0)
	if err != nil {
		return err
	}
	if active {
		err = g.dropRunning(b, also, targetsOf(def))
	} else {
		err = errors.Join(g.dropFromFiles(b, def), g.dropMetadata(b))
	}
	if err != nil {
		return fmt.Errorf("remove checkpoint %s of domain %s: %w", b, g.dom.Name, err)
	}
	return nil
}

// dropRunning removes bitmaps one by one where libvirt does not find all of
// them.
func (g *Guest) dropRunning(b guest.Bitmap, also, all []string) error {
	at := lv.DomainCheckpoint{Name: string(b), Dom: g.dom}
	switch err := g.c.l.DomainCheckpointDelete(at, 0); {
	case err == nil, is(err, lv.ErrNoDomainCheckpoint):
	case is(err, lv.ErrInternalError): // a bitmap is not there
		also = all
	default:
		return err
	}
	for _, t := range also {
		if g.redefine(b, []string{t}, all, false) == nil {
			_ = g.c.l.DomainCheckpointDelete(at, 0) // as a rule it has none
		}
	}
	return g.dropMetadata(b)
}

// dropMetadata lets libvirt forget a checkpoint.
func (g *Guest) dropMetadata(b guest.Bitmap) error {
	err := g.c.l.DomainCheckpointDelete(lv.DomainCheckpoint{Name: string(b), Dom: g.dom}, lv.DomainCheckpointDeleteMetadataOnly)
	if is(err, lv.ErrNoDomainCheckpoint) {
		return nil
	}
	return err
}
