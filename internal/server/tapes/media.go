package tapes

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/server/api"
	"github.com/holdfast-backup/holdfast/internal/server/param"
	"github.com/holdfast-backup/holdfast/internal/tape/job"
	"github.com/holdfast-backup/holdfast/internal/tape/listing"
	"github.com/holdfast-backup/holdfast/internal/tape/media"
)

var (
	uuidParam     = api.Parsed("uuid", "The medium, by its uuid.", `[0-9a-f\-]{36}`, 36, uuid.Parse)
	setParam      = uuidParam.As("media-set", "The media set.").Optional()
	updateStatus  = api.Bool("update-status", "Ask changers first which media they hold.").Default(true)
	updateChanger = api.Match("update-status-changer", "Only this changer is asked.", param.SafeID, 32).Optional()
	vaultName     = api.Match("vault-name", "The vault that the medium is brought to; without it, it is at no special place.", param.SafeID, 32).Optional()
	forget        = api.Bool("force", "Forget it although it is in a media set.").Default(false)
	statusParam   = api.Parsed("status", "full, damaged or retired; without it, it is found out.", "full|damaged|retired", 16, media.ParseStatus).Optional()
)

const (
	seePools    = "Those of pools with Tape.Audit on /tape/pool/{pool}; of media without pool those with it on /tape/pool."
	changePools = "Needs Tape.Modify on /tape/pool/{pool} of the medium."
)

// mediaCalls are the calls about what is known of media.
func (t *Tapes) mediaCalls() []api.Call {
	const at = "/tape/media"
	which := []api.AnyParam{labelText.Optional(), uuidParam.Optional()}
	return []api.Call{
		{
			Method: "GET", Path: at + "/list", Doc: "List media.", Guard: api.LoggedIn(seePools),
			Params: []api.AnyParam{poolParam.Optional(), updateStatus, updateChanger}, Do: api.Data(t.listMedia),
		},
		{
			Method: "GET", Path: at + "/media-sets", Doc: "List media sets.", Guard: api.LoggedIn(seePools),
			Do: api.Data(func(_ context.Context, r *api.Request) ([]listing.Set, error) {
				src, err := t.source()
				if err != nil {
					return nil, err
				}
				return src.Sets(seen(r))
			}),
		},
		{
			Method: "GET", Path: at + "/content", Doc: "List the snapshots on media.", Guard: api.LoggedIn(seePools),
			Params: []api.AnyParam{poolParam.Optional(), labelText.Optional(), uuidParam.As("media", "The medium.").Optional(), setParam},
			Do:     api.Data(t.content),
		},
		{
			Method: "GET", Path: at + "/destroy", Doc: "Forget a medium, with its catalog. The medium stays as it is.", Guard: api.LoggedIn(changePools),
			Params: append([]api.AnyParam{forget}, which...), Do: api.Nothing(t.destroy),
		},
		{
			Method: "POST", Path: at + "/move", Doc: "Say that a medium is in a vault.", Guard: api.LoggedIn(changePools),
			Params: append([]api.AnyParam{vaultName}, which...), Do: api.Nothing(t.move),
		},
		{
			Method: "GET", Path: at + "/list/{uuid}/status", Doc: "Show the status and place of a medium.", Guard: api.LoggedIn(seePools),
			Params: []api.AnyParam{uuidParam}, Do: api.Data(t.mediumStatus),
		},
		{
			Method: "POST", Path: at + "/list/{uuid}/status", Doc: "Say that a medium is full, damaged or retired.", Guard: api.LoggedIn(changePools),
			Params: []api.AnyParam{uuidParam, statusParam}, Do: api.Nothing(t.setStatus),
		},
	}
}

// source is where listings come from.
func (t *Tapes) source() (listing.Source, error) {
	st, err := t.state()
	return listing.Source{State: st, Config: t.config, Now: t.opt.Now()}, err
}

// seen says which media the caller sees.
func seen(r *api.Request) func(media.Medium) bool {
	return func(m media.Medium) bool {
		return r.Policy.RequireAny(r.Caller, poolPath(m.Pool()), access.TapeAudit) == nil
	}
}

func (t *Tapes) listMedia(ctx context.Context, r *api.Request) ([]listing.Medium, error) {
	if updateStatus.Of(r) {
		if err := t.updateOnline(ctx, updateChanger.Of(r)); err != nil {
			return nil, err
		}
	}
	src, err := t.source()
	if err != nil {
		return nil, err
	}
	pool, limited := poolParam.Optional().Given(r)
	may := seen(r)
	return src.Media(func(m media.Medium) bool { return (!limited || m.Pool() == pool) && may(m) })
}

// updateOnline asks changers what they hold, those that are not busy.
func (t *Tapes) updateOnline(ctx context.Context, only string) error {
	drives, err := t.config.Drives()
	if err != nil {
		return err
	}
	asked := map[string]bool{}
	for _, d := range drives {
		name := d.Online()
		if name == "" || asked[name] || only != "" && only != name {
			continue
		}
		asked[name] = true
		// A changer that cannot be asked keeps its media where they were.
		_ = t.work(ctx, d.Name, silent{}, func(w *job.World) error { return w.UpdateOnline(ctx) })
	}
	return nil
}

func (t *Tapes) content(_ context.Context, r *api.Request) ([]listing.Content, error) {
	src, err := t.source()
	if err != nil {
		return nil, err
	}
	may := seen(r)
	pool, byPool := poolParam.Optional().Given(r)
	text, byText := labelText.Optional().Given(r)
	id, byID := uuidParam.As("media", "The medium.").Optional().Given(r)
	set, bySet := setParam.Given(r)
	list, _, err := src.Contents(func(m media.Medium) bool {
		return (!byPool || m.Pool() == pool) && (!byText || m.Label.Text == text) && (!byID || m.UUID() == id) &&
			(!bySet || m.MediaSet() == set) && may(m)
	})
	return list, err
}

// medium is one that find looks up, if the caller has rights on its pool.
func (t *Tapes) medium(r *api.Request, need access.Privs, find func(*media.Inventory) (media.Medium, error)) (*media.State, media.Medium, error) {
	st, err := t.state()
	if err != nil {
		return nil, media.Medium{}, err
	}
	inv, err := st.Inventory()
	if err != nil {
		return nil, media.Medium{}, err
	}
	m, err := find(inv)
	if err == nil {
		err = r.Policy.RequireAny(r.Caller, poolPath(m.Pool()), need)
	}
	return st, m, err
}

// named is the medium that a request names by its text or its uuid.
func (t *Tapes) named(r *api.Request, need access.Privs) (*media.State, media.Medium, error) {
	return t.medium(r, need, func(inv *media.Inventory) (media.Medium, error) {
		id, byID := uuidParam.Optional().Given(r)
		text, byText := labelText.Optional().Given(r)
		switch {
		case byID == byText:
			return media.Medium{}, errors.New("name the medium, either by 'label-text' or by 'uuid'")
		case byID:
			return inv.Find(id)
		}
		return inv.FindLabel(text)
	})
}

// numbered is the medium whose uuid is in the path of a request.
func (t *Tapes) numbered(r *api.Request, need access.Privs) (*media.State, media.Medium, error) {
	return t.medium(r, need, func(inv *media.Inventory) (media.Medium, error) { return inv.Find(uuidParam.Of(r)) })
}

func (t *Tapes) destroy(ctx context.Context, r *api.Request) error {
	st, m, err := t.named(r, access.TapeModify)
	if err != nil {
		return err
	}
	if m.InSet() && !forget.Of(r) {
		return fmt.Errorf("medium %s is in media set %s; 'force' forgets it all the same", m.Label.Text, m.MediaSet())
	}
	return st.Forget(ctx, m.UUID())
}

func (t *Tapes) move(ctx context.Context, r *api.Request) error {
	st, m, err := t.named(r, access.TapeModify)
	if err != nil {
		return err
	}
	to := media.Location{Place: media.Offline}
	if name, given := vaultName.Given(r); given {
		to = media.Location{Place: media.Vault, Name: name}
	}
	return st.SetLocation(ctx, m.UUID(), to)
}

// statusItem is the status that a medium was given, and where it is.
type statusItem struct {
	Status   string `json:"status,omitempty"`
	Location string `json:"location"`
}

func (t *Tapes) mediumStatus(_ context.Context, r *api.Request) (statusItem, error) {
	_, m, err := t.numbered(r, access.TapeAudit)
	return statusItem{string(m.Status), m.Location.String()}, err
}

func (t *Tapes) setStatus(ctx context.Context, r *api.Request) error {
	st, m, err := t.numbered(r, access.TapeModify)
	if err != nil {
		return err
	}
	return st.SetStatus(ctx, m.UUID(), statusParam.Of(r))
}
