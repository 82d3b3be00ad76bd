package qemu

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/guest"
)

// chooseBitmaps decides for each disk how a bitmap is used, and removes leftover
// ones.
func (p *point) chooseBitmaps(ctx context.Context, all []Disk) error {
	for i := range p.drives {
		d := &p.drives[i]
		d.mode, d.why = chooseMode(d.Disk, p.req)
	}
	var errs []error
	for _, d := range all {
		for _, m := range d.Bitmaps {
			b, err := guest.ParseBitmap(m.Name)
			if err != nil || b.Owner() != p.req.Owner || b == p.req.Keep[d.Name] && usable(m, p.req) == "" {
				continue
			}
			errs = append(errs, p.g.removeBitmap(ctx, d.Node, m.Name))
		}
	}
	return errors.Join(errs...)
}

func chooseMode(d Disk, req guest.Request) (mode guest.Mode, why string) {
	switch base, ok := req.Base[d.Name]; {
	case req.New == "":
		return guest.None, ""
	case d.readOnly:
		return guest.None, "the disk is read-only"
	case !ok:
		return guest.New, ""
	case base.Size != d.Size:
		return guest.MissingRecreated, fmt.Sprintf("the disk had %d bytes and has %d now", base.Size, d.Size)
	default:
		for _, m := range d.Bitmaps {
			if m.Name != string(base.Bitmap) {
				continue
			}
			if why := usable(m, req); why != "" {
				return guest.MissingRecreated, why
			}
			return guest.Reuse, ""
		}
		return guest.MissingRecreated, "the bitmap is gone"
	}
}

// usable reports why a bitmap is as good as missing.
func usable(m Bitmap, req guest.Request) string {
	switch {
	case m.Inconsistent:
		return "the bitmap is inconsistent: QEMU did not end cleanly"
	case m.Busy:
		return "the bitmap is in use"
	case !m.Recording:
		return "the bitmap was disabled"
	case m.Granularity != int64(req.ChunkSize):
		return fmt.Sprintf("the bitmap counts blocks of %d bytes and not chunks of %d", m.Granularity, req.ChunkSize)
	}
	return ""
}

// bitmapActions begin the new bitmaps and freeze what the old ones say. They
// come first in the transaction.
func (p *point) bitmapActions() (actions []obj) {
	add := func(kind string, data obj) { actions = append(actions, obj{"type": kind, "data": data}) }
	for i := range p.drives {
		d := &p.drives[i]
		if d.mode == guest.None {
			continue
		}
		add("block-dirty-bitmap-add", obj{"node": d.Node, "name": p.req.New, "granularity": p.req.ChunkSize, "persistent": d.keeps})
		if d.mode == guest.Reuse {
			add("block-dirty-bitmap-add", obj{"node": d.Node, "name": incBitmap, "granularity": p.req.ChunkSize, "disabled": true})
			add("block-dirty-bitmap-merge", obj{"node": d.Node, "target": incBitmap, "bitmaps": []any{p.req.Base[d.Name].Bitmap}})
		}
	}
	return actions
}
