package tapes

import (
	"context"
	"errors"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/server/api"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/listing"
)

var (
	cached   = api.Bool("cache", "Tell what is remembered from the last time, without asking the changer.").Default(true)
	fromSlot = slotParam("from", "The slot with the medium.")
	toSlot   = slotParam("to", "The empty slot.")
)

// changerCalls are the calls about changers.
func (t *Tapes) changerCalls() []api.Call {
	const at, right = "/tape/changer/{name}", "/tape/device/{name}"
	return []api.Call{
		{
			Method: "GET", Path: "/tape/changer", Doc: "List the changers, with what the machine knows of them.",
			Guard: api.LoggedIn("Those with Tape.Audit on /tape/device/{name}."), Do: api.Data(t.changers),
		},
		{
			Method: "GET", Path: at + "/status", Doc: "List what is in the drives and slots of a changer.", Guard: api.Where(right, access.TapeAudit),
			Params: []api.AnyParam{nameParam, cached}, Do: api.Data(t.elements),
		},
		{
			Method: "POST", Path: at + "/transfer", Doc: "Move a medium from one slot to another.", Guard: api.Where(right, access.TapeRead),
			Params: []api.AnyParam{nameParam, fromSlot, toSlot},
			Do: api.Nothing(func(ctx context.Context, r *api.Request) error {
				return t.changer(ctx, nameParam.Of(r), func(c tape.Changer) error {
					return errors.Join(c.Transfer(ctx, int(fromSlot.Of(r)), int(toSlot.Of(r))), t.run.ForgetChanger(nameParam.Of(r)))
				})
			}),
		},
	}
}

// changerItem is a changer.
type changerItem struct {
	Name   string `json:"name"`
	Path   string `json:"path"`
	Vendor string `json:"vendor,omitempty"`
	Model  string `json:"model,omitempty"`
	Serial string `json:"serial,omitempty"`
}

func (t *Tapes) changers(_ context.Context, r *api.Request) ([]changerItem, error) {
	all, err := t.config.Changers()
	if err != nil {
		return nil, err
	}
	connected, err := found(scsi.TypeChanger, "changer")
	if err != nil {
		connected = nil // a machine without the driver has none
	}
	list := []changerItem{}
	for _, c := range all {
		if r.Policy.RequireAny(r.Caller, devicePath(c.Name), access.TapeAudit) != nil {
			continue
		}
		item := changerItem{Name: c.Name, Path: c.Path}
		for _, f := range connected {
			if f.Path == c.Path || "serial:"+f.Serial == c.Path {
				item.Vendor, item.Model, item.Serial = f.Vendor, f.Model, f.Serial
			}
		}
		list = append(list, item)
	}
	return list, nil
}

// changer runs f with a changer.
func (t *Tapes) changer(ctx context.Context, name string, f func(tape.Changer) error) (err error) {
	o, done := t.open()
	defer func() { err = errors.Join(err, done()) }()
	c, _, err := o.Changer(ctx, name)
	if err != nil {
		return err
	}
	return errors.Join(f(c), c.Close())
}

// elements lists the places of a changer. What it holds is remembered, and the
// inventory told.
func (t *Tapes) elements(ctx context.Context, r *api.Request) ([]listing.Element, error) {
	name := nameParam.Of(r)
	conf, err := t.config.Changer(name)
	if err != nil {
		return nil, err
	}
	st, known, err := t.run.Changer(name)
	if err != nil || !known || !cached.Of(r) {
		err = t.changer(ctx, name, func(c tape.Changer) error {
			if st, err = c.Status(ctx); err != nil {
				return err
			}
			return t.run.SaveChanger(name, st)
		})
		if err != nil {
			return nil, err
		}
	}
	list := listing.Elements(st, conf.ExportSlots)
	drives, err := t.config.Drives()
	if err != nil {
		return nil, err
	}
	for i := range list {
		for _, d := range drives {
			if list[i].Kind == "drive" && d.Changer == name && d.Number == list[i].ID {
				if list[i].State, err = t.busy(d.Name); err != nil {
					return nil, err
				}
			}
		}
	}
	return list, nil
}
