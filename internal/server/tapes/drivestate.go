package tapes

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/server/api"
	"github.com/holdfast-backup/holdfast/internal/server/param"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/config"
	"github.com/holdfast-backup/holdfast/internal/tape/lto"
	"github.com/holdfast-backup/holdfast/internal/tape/lto/logpage"
	"github.com/holdfast-backup/holdfast/internal/tape/lto/mam"
)

var (
	changerFilter = api.Match("changer", "Only drives of this changer.", param.SafeID, 32).Optional()
	askActivity   = api.Bool("query-activity", "Ask the drives what they do; those that are used are not asked.").Default(false)
)

// driveStateCalls are the calls that ask drives.
func (t *Tapes) driveStateCalls() []api.Call {
	const at, device = "/tape/drive/{drive}", "/tape/device/{drive}"
	see := api.Where(device, access.TapeAudit)
	return []api.Call{
		{
			Method: "GET", Path: "/tape/drive", Doc: "List the drives, with what the machine knows of them.",
			Guard: api.LoggedIn("Those with Tape.Audit on /tape/device/{drive}."), Params: []api.AnyParam{changerFilter, askActivity}, Do: api.Data(t.drives),
		},
		{Method: "GET", Path: at + "/status", Doc: "Show the state of a drive and of its medium.", Guard: see, Params: []api.AnyParam{driveParam}, Do: api.Data(t.status)},
		{
			Method: "GET", Path: at + "/cartridge-memory", Doc: "Show the memory of the cartridge in a drive.", Guard: see, Params: []api.AnyParam{driveParam},
			Do: api.Data(t.memory),
		},
		{
			Method: "GET", Path: at + "/volume-statistics", Doc: "Show what a drive knows of the medium in it.", Guard: see, Params: []api.AnyParam{driveParam},
			Do: api.Data(t.volume),
		},
		{
			Method: "GET", Path: "/tape/scan-drives", Doc: "List the tape drives that are connected to this machine.", Guard: api.Where("/tape/device", access.TapeAudit),
			Do: api.Data(func(context.Context, *api.Request) ([]foundItem, error) { return found(scsi.TypeTape, "tape") }),
		},
		{
			Method: "GET", Path: "/tape/scan-changers", Doc: "List the changers that are connected to this machine.", Guard: api.Where("/tape/device", access.TapeAudit),
			Do: api.Data(func(context.Context, *api.Request) ([]foundItem, error) { return found(scsi.TypeChanger, "changer") }),
		},
	}
}

// foundItem is a device that is connected.
type foundItem struct {
	Kind   string `json:"kind"`
	Path   string `json:"path"`
	Serial string `json:"serial"`
	Vendor string `json:"vendor"`
	Model  string `json:"model"`
}

// found lists connected devices, each by a name that stays, where it has one.
func found(kind scsi.DeviceType, word string) ([]foundItem, error) {
	all, err := scsi.Discover(os.DirFS("/sys"), os.DirFS("/dev"))
	if err != nil {
		return nil, err
	}
	list := []foundItem{}
	for _, f := range all {
		if f.Type != kind {
			continue
		}
		item := foundItem{word, f.Generic, f.Serial, f.Vendor, f.Product}
		for _, link := range f.Links {
			if strings.Contains(link, "/by-id/") {
				item.Path = link
				break
			}
		}
		list = append(list, item)
	}
	return list, nil
}

// driveItem is a drive.
type driveItem struct {
	Name     string         `json:"name"`
	Path     string         `json:"path"`
	Changer  string         `json:"changer,omitempty"`
	Number   *int           `json:"changer-drivenum,omitempty"`
	Vendor   string         `json:"vendor,omitempty"`
	Model    string         `json:"model,omitempty"`
	Serial   string         `json:"serial,omitempty"`
	State    string         `json:"state,omitempty"` // what it is busy with
	Activity *logpage.Doing `json:"activity,omitempty"`
}

func (t *Tapes) drives(ctx context.Context, r *api.Request) ([]driveItem, error) {
	all, err := t.config.Drives()
	if err != nil {
		return nil, err
	}
	connected, err := found(scsi.TypeTape, "tape")
	if err != nil {
		connected = nil // a machine without the driver has none
	}
	list := []driveItem{}
	for _, d := range all {
		if c, given := changerFilter.Given(r); given && c != d.Changer {
			continue
		}
		if r.Policy.RequireAny(r.Caller, devicePath(d.Name), access.TapeAudit) != nil {
			continue
		}
		item := driveItem{Name: d.Name, Path: d.Path, Changer: d.Changer}
		if d.Changer != "" {
			item.Number = &d.Number
		}
		for _, f := range connected {
			if f.Path == d.Path || "serial:"+f.Serial == d.Path {
				item.Vendor, item.Model, item.Serial = f.Vendor, f.Model, f.Serial
			}
		}
		if item.State, err = t.busy(d.Name); err != nil {
			return nil, err
		}
		if item.State == "" && askActivity.Of(r) && !d.Virtual {
			t.askActivity(ctx, d, &item)
		}
		list = append(list, item)
	}
	return list, nil
}

// askActivity asks a drive who it is and what it does. One that cannot be asked now
// is shown without.
func (t *Tapes) askActivity(ctx context.Context, d config.DriveConfig, item *driveItem) {
	_ = t.ask(ctx, d.Name, func(l *lto.Drive) error {
		id := l.Identity()
		item.Vendor, item.Model = id.Vendor, id.Product
		doing, err := l.Activity()
		if err == nil {
			item.Activity = &doing
		}
		return err
	})
}

// ask runs f with an LTO drive, whatever is in it.
func (t *Tapes) ask(ctx context.Context, name string, f func(*lto.Drive) error) (err error) {
	c, err := t.config.Drive(name)
	if err != nil {
		return err
	}
	if c.Virtual {
		return errors.Join(tape.ErrUnsupported, errors.New("a virtual drive has nothing to tell of itself"))
	}
	o, done := t.open()
	defer func() { err = errors.Join(err, done()) }()
	d, err := o.LTO(ctx, c.Path, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return f(d.Drive)
}

func (t *Tapes) status(ctx context.Context, r *api.Request) (st lto.Status, err error) {
	err = t.ask(ctx, driveParam.Of(r), func(d *lto.Drive) error {
		st, err = d.Status(ctx)
		return err
	})
	return st, err
}

func (t *Tapes) memory(ctx context.Context, r *api.Request) (list []mam.Attribute, err error) {
	err = t.ask(ctx, driveParam.Of(r), func(d *lto.Drive) error {
		list, _, err = d.Memory()
		return err
	})
	return list, err
}

func (t *Tapes) volume(ctx context.Context, r *api.Request) (st logpage.Statistics, err error) {
	err = t.ask(ctx, driveParam.Of(r), func(d *lto.Drive) error {
		st, err = d.Volume()
		return err
	})
	return st, err
}
