package tapes

import (
	"context"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/property"
	"github.com/holdfast-backup/holdfast/internal/server/api"
	"github.com/holdfast-backup/holdfast/internal/server/param"
	"github.com/holdfast-backup/holdfast/internal/server/sections"
	"github.com/holdfast-backup/holdfast/internal/tape/config"
)

var (
	digestParam = param.Digest()
	nameParam   = api.Match("name", "Its name.", param.SafeID, 32)
)

// configured is a kind of section as calls know it.
type configured struct {
	kind   config.Kind
	path   string // of its calls
	what   string // as "drive", in the descriptions
	rights string // the path of its rights, without the name
}

func (t *Tapes) configCalls() (list []api.Call) {
	for _, c := range []configured{
		{config.LTO, "/config/drive", "LTO drive", "/tape/device"},
		{config.Changer, "/config/changer", "changer", "/tape/device"},
		{config.Pool, "/config/media-pool", "media pool", "/tape/pool"},
	} {
		list = append(list, t.callsOf(c)...)
	}
	return list
}

func (t *Tapes) callsOf(c configured) []api.Call {
	fresh, edit := sections.Of(config.Properties(c.kind), true), sections.Of(config.Properties(c.kind), false)
	remove := edit.Removal()
	one, at := c.path+"/{name}", c.rights+"/{name}"
	return []api.Call{
		{
			Method: "GET", Path: c.path, Doc: "List what is configured as " + c.what + ".", Guard: api.LoggedIn("Those with Tape.Audit on " + at + "."),
			Do: api.Data(func(_ context.Context, r *api.Request) ([]map[string]any, error) { return t.sections(r, c) }),
		},
		{
			Method: "POST", Path: c.path, Doc: "Add a " + c.what + ".", Guard: api.Where(c.rights, access.TapeModify),
			Params: append([]api.AnyParam{nameParam}, fresh.Params()...),
			Do: api.Nothing(func(ctx context.Context, r *api.Request) error {
				return t.config.Create(ctx, c.kind, nameParam.Of(r), fresh.Values(r))
			}),
		},
		{
			Method: "GET", Path: one, Doc: "Show a " + c.what + ".", Guard: api.Where(at, access.TapeAudit), Params: []api.AnyParam{nameParam},
			Do: api.Data(func(_ context.Context, r *api.Request) (map[string]any, error) {
				sec, digest, err := t.config.Section(c.kind, nameParam.Of(r))
				if err != nil {
					return nil, err
				}
				r.Set("digest", digest.String())
				item := property.Item(sec, config.Properties(c.kind))
				item["name"] = sec.ID
				return item, nil
			}),
		},
		{
			Method: "PUT", Path: one, Doc: "Change a " + c.what + ".", Guard: api.Where(at, access.TapeModify),
			Params: append([]api.AnyParam{nameParam, remove, digestParam}, edit.Params()...),
			Do: api.Nothing(func(ctx context.Context, r *api.Request) error {
				return t.config.Update(ctx, c.kind, nameParam.Of(r), digestParam.Of(r), sections.Merged(edit.Values(r), remove.Of(r)))
			}),
		},
		{
			Method: "DELETE", Path: one, Doc: "Remove a " + c.what + ", which nothing else may name.", Guard: api.Where(at, access.TapeModify),
			Params: []api.AnyParam{nameParam, digestParam},
			Do: api.Nothing(func(ctx context.Context, r *api.Request) error {
				return t.config.Remove(ctx, c.kind, nameParam.Of(r), digestParam.Of(r))
			}),
		},
	}
}

// sections lists those of a kind that the caller sees.
func (t *Tapes) sections(r *api.Request, c configured) ([]map[string]any, error) {
	all, digest, err := t.config.Sections(c.kind)
	if err != nil {
		return nil, err
	}
	r.Set("digest", digest.String())
	list := []map[string]any{}
	for _, sec := range all {
		if r.Policy.RequireAny(r.Caller, access.Path(c.rights+"/"+sec.ID), access.TapeAudit) != nil {
			continue
		}
		item := property.Item(sec, config.Properties(c.kind))
		item["name"] = sec.ID
		list = append(list, item)
	}
	return list, nil
}

// devicePath and the others are where rights on tapes are given.
func devicePath(name string) access.Path { return access.Path("/tape/device/" + name) }
func drivePath(name string) access.Path  { return access.Path("/tape/drive/" + name) }
func poolPath(name string) access.Path {
	return access.Path(strings.TrimSuffix("/tape/pool/"+name, "/"))
}
