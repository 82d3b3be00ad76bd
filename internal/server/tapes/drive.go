package tapes

import (
	"context"
	"errors"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/server/api"
	"github.com/holdfast-backup/holdfast/internal/server/param"
	"github.com/holdfast-backup/holdfast/internal/server/tasks"
	"github.com/holdfast-backup/holdfast/internal/tape/job"
	"github.com/holdfast-backup/holdfast/internal/tape/listing"
)

var (
	driveParam  = api.Match("drive", "The drive.", param.SafeID, 32)
	labelText   = api.Match("label-text", "The text of a label, as it is printed on the cartridge.", param.SafeID, 32)
	poolParam   = api.Match("pool", "The pool of media.", param.SafeID, 32)
	slotParam   = func(name, doc string) api.Param[int64] { return api.Int(name, doc, 1, 1<<16) }
	fast        = api.Bool("fast", "Leave old data behind the new end of data, which takes seconds instead of hours.").Default(true)
	barcode     = labelText.As("load-barcode", "Load the medium with this barcode first.").Optional()
	sourceSlot  = slotParam("source-slot", "The slot with the medium.")
	targetSlot  = slotParam("target-slot", "The slot for the medium; without it the one that it came from.").Optional()
	inventorize = api.Bool("inventorize", "Take the medium into the inventory.").Default(false)
	readAll     = api.Bool("read-all-labels", "Read all labels, not only those of media that are not known.").Default(false)
	withCatalog = api.Bool("catalog", "Make the catalogs that are missing.").Default(false)
	scan        = api.Bool("scan", "Read the whole medium, also where a catalog is on it.").Default(false)
	replace     = api.Bool("force", "Replace the catalog that is there.").Default(false)
	verbose     = api.Bool("verbose", "Of no effect here: the log is complete.").Default(false)
)

// driveCalls are the calls that use a drive.
func (t *Tapes) driveCalls() []api.Call {
	const at, device = "/tape/drive/{drive}", "/tape/device/{drive}"
	read, write := api.Where(device, access.TapeRead), api.Where(device, access.TapeWrite)
	with := func(more ...api.AnyParam) []api.AnyParam { return append([]api.AnyParam{driveParam}, more...) }
	return append([]api.Call{
		{
			Method: "POST", Path: at + "/load-media", Doc: "Load the medium with a barcode. The task is the answer.", Guard: read, Params: with(labelText),
			Do: t.task("load-media", func(ctx context.Context, r *api.Request, w *job.World) error {
				return w.Station.Bring(ctx, labelText.Of(r))
			}),
		},
		{
			Method: "POST", Path: at + "/load-slot", Doc: "Load the medium of a slot.", Guard: read, Params: with(sourceSlot),
			Do: t.now(func(ctx context.Context, r *api.Request, w *job.World) error {
				return w.Station.BringSlot(ctx, int(sourceSlot.Of(r)))
			}),
		},
		{
			Method: "PUT", Path: at + "/export-media", Doc: "Move the medium with a barcode to a slot for import and export. Its number is the answer.",
			Guard: read, Params: with(labelText), Do: api.Data(t.export),
		},
		{
			Method: "POST", Path: at + "/unload", Doc: "Take the medium out of the drive. The task is the answer.", Guard: read, Params: with(targetSlot),
			Do: t.task("unload-media", func(ctx context.Context, r *api.Request, w *job.World) error {
				return w.Station.Unload(ctx, int(targetSlot.Of(r)))
			}),
		},
		{
			Method: "POST", Path: at + "/eject-media", Doc: "Have the drive eject its medium. The task is the answer.", Guard: read, Params: with(),
			Do: t.task("eject-media", func(ctx context.Context, _ *api.Request, w *job.World) error { return w.Station.Eject(ctx) }),
		},
		{
			Method: "POST", Path: at + "/rewind", Doc: "Rewind the medium. The task is the answer.", Guard: read, Params: with(),
			Do: t.task("rewind-media", func(ctx context.Context, _ *api.Request, w *job.World) (err error) {
				d, err := w.Station.Open(ctx)
				if err != nil {
					return err
				}
				return errors.Join(d.Rewind(ctx), d.Close())
			}),
		},
		{
			Method: "POST", Path: at + "/format-media", Doc: "Make the medium empty. The task is the answer.", Guard: write,
			Params: with(fast, labelText.Optional(), barcode),
			Do: t.task("format-media", func(ctx context.Context, r *api.Request, w *job.World) error {
				if code, given := barcode.Given(r); given {
					if err := w.Station.Bring(ctx, code); err != nil {
						return err
					}
				}
				return w.Format(ctx, labelText.Optional().Of(r), fast.Of(r))
			}),
		},
		{
			Method: "POST", Path: at + "/label-media", Doc: "Give the empty medium in the drive a label. The task is the answer.", Guard: write,
			Params: with(labelText, poolParam.Optional()), Do: t.task("label-media", t.label),
		},
		{
			Method: "POST", Path: at + "/barcode-label-media", Doc: "Give every medium of the changer whose barcode is not known a label. The task is the answer.",
			Guard: write, Params: with(poolParam.Optional()), Do: t.task("barcode-label-media", t.barcodeLabel),
		},
		{
			Method: "POST", Path: at + "/restore-key", Doc: "Take the key of the medium in the drive into the configuration.", Guard: read,
			Params: with(password), Do: t.now(t.restoreKey),
		},
		{
			Method: "GET", Path: at + "/read-label", Doc: "Read the labels of the medium in the drive.", Guard: read, Params: with(inventorize),
			Do: api.Data(t.readLabel),
		},
		{
			Method: "PUT", Path: at + "/clean", Doc: "Clean the drive with a cartridge of the changer. The task is the answer.", Guard: read, Params: with(),
			Do: t.task("clean-drive", func(ctx context.Context, _ *api.Request, w *job.World) error { return w.Clean(ctx) }),
		},
		{
			Method: "GET", Path: at + "/inventory", Doc: "List the barcodes of the changer with the media that are known.", Guard: read, Params: with(),
			Do: api.Data(t.inventory),
		},
		{
			Method: "PUT", Path: at + "/inventory", Doc: "Read the labels of the media in the changer. The task is the answer.", Guard: read,
			Params: with(readAll, withCatalog),
			Do: t.task("inventory-update", func(ctx context.Context, r *api.Request, w *job.World) error {
				return w.Inventory(ctx, job.InventoryOptions{ReadAll: readAll.Of(r), Catalog: withCatalog.Of(r)})
			}),
		},
		{
			Method: "POST", Path: at + "/catalog", Doc: "Make the catalog of the medium in the drive. The task is the answer.", Guard: read,
			Params: with(scan, replace, verbose), Do: t.task("catalog-media", t.catalog),
		},
	}, t.driveStateCalls()...)
}

// task is a call that starts a task with the drive.
func (t *Tapes) task(typ string, f func(context.Context, *api.Request, *job.World) error) api.Handler {
	return api.Data(func(_ context.Context, r *api.Request) (string, error) {
		return t.start(typ, driveParam.Of(r), r.Caller, func(ctx context.Context, _ *tasks.Task, w *job.World) error { return f(ctx, r, w) })
	})
}

// now is a call that is answered when its work is done.
func (t *Tapes) now(f func(context.Context, *api.Request, *job.World) error) api.Handler {
	return api.Nothing(func(ctx context.Context, r *api.Request) error {
		return t.work(ctx, driveParam.Of(r), silent{}, func(w *job.World) error { return f(ctx, r, w) })
	})
}

func (t *Tapes) export(ctx context.Context, r *api.Request) (slot int, err error) {
	err = t.work(ctx, driveParam.Of(r), silent{}, func(w *job.World) error {
		slot, err = w.Station.Export(ctx, labelText.Of(r))
		return err
	})
	return slot, err
}

// isPool makes sure that the pool is there for which a label reserves a medium.
func (t *Tapes) isPool(r *api.Request) (string, error) {
	name, given := poolParam.Optional().Given(r)
	if !given {
		return "", nil
	}
	_, err := t.config.Pool(name)
	return name, err
}

func (t *Tapes) label(ctx context.Context, r *api.Request, w *job.World) error {
	pool, err := t.isPool(r)
	if err != nil {
		return err
	}
	_, err = w.Label(ctx, labelText.Of(r), pool)
	return err
}

func (t *Tapes) barcodeLabel(ctx context.Context, r *api.Request, w *job.World) error {
	pool, err := t.isPool(r)
	if err != nil {
		return err
	}
	made, err := w.BarcodeLabel(ctx, pool)
	w.Logf("%d media got a label", len(made))
	return err
}

func (t *Tapes) restoreKey(ctx context.Context, r *api.Request, w *job.World) error {
	l, err := w.ReadLabel(ctx, false)
	if err != nil {
		return err
	}
	if l.Key == nil {
		return errors.New("the medium has no key: it is not encrypted")
	}
	_, err = t.keys.Import(ctx, l.Key, []byte(password.Of(r)))
	return err
}

func (t *Tapes) readLabel(ctx context.Context, r *api.Request) (item listing.Labels, err error) {
	err = t.work(ctx, driveParam.Of(r), silent{}, func(w *job.World) error {
		l, err := w.ReadLabel(ctx, inventorize.Of(r))
		item = listing.LabelsOf(l.Medium, l.Set)
		return err
	})
	return item, err
}

func (t *Tapes) catalog(ctx context.Context, r *api.Request, w *job.World) error {
	st, err := w.Catalog(ctx, job.CatalogOptions{Scan: scan.Of(r), Force: replace.Of(r)})
	if err == nil && st.Damaged > 0 {
		w.Warnf("%d files or chunks cannot be read", st.Damaged)
	}
	return err
}

// labelItem is a barcode and the medium that has it.
type labelItem struct {
	Text string `json:"label-text"`
	UUID string `json:"uuid,omitempty"`
}

func (t *Tapes) inventory(ctx context.Context, r *api.Request) (list []labelItem, err error) {
	list = []labelItem{}
	err = t.work(ctx, driveParam.Of(r), silent{}, func(w *job.World) error {
		if w.Station.Changer == nil {
			return errors.New("the drive has no changer, whose media could be listed")
		}
		st, err := w.Station.Changer.Status(ctx)
		if err != nil {
			return err
		}
		inv, err := w.State.Inventory()
		if err != nil {
			return err
		}
		for _, e := range listing.Elements(st, w.Station.Exports) {
			if e.Label == nil || *e.Label == "" || job.IsCleaning(*e.Label) {
				continue
			}
			item := labelItem{Text: *e.Label}
			if m, err := inv.FindLabel(item.Text); err == nil {
				item.UUID = m.UUID().String()
			}
			list = append(list, item)
		}
		return nil
	})
	return list, err
}
