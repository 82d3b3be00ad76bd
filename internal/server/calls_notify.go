package server

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
	"github.com/holdfast-backup/holdfast/internal/notify"
	"github.com/holdfast-backup/holdfast/internal/property"
	"github.com/holdfast-backup/holdfast/internal/server/api"
	"github.com/holdfast-backup/holdfast/internal/server/jobs"
	"github.com/holdfast-backup/holdfast/internal/server/sections"
)

var (
	noticeName = api.Match("name", "The target or matcher.", safeID, 32)
	seeNotices = api.Where("/system/notifications", access.SysAudit)
	setNotices = api.Where("/system/notifications", access.SysModify)
)

// noticeCalls are the calls about how people hear of jobs.
func (s *Server) noticeCalls() []api.Call {
	const at = "/config/notifications"
	list := []api.Call{
		{Method: "GET", Path: at + "/targets", Doc: "List the targets of notifications.", Guard: seeNotices, Do: api.Data(s.listTargets)},
		{
			Method: "POST", Path: at + "/targets/{name}/test", Doc: "Send a message to a target, to see whether it comes.",
			Guard: setNotices, Params: []api.AnyParam{noticeName}, Do: api.Nothing(s.testTarget),
		},
		{Method: "GET", Path: at + "/matcher-fields", Doc: "List the fields that matchers can look at.", Guard: seeNotices, Do: api.Data(s.noticeFields)},
		{Method: "GET", Path: at + "/matcher-field-values", Doc: "List values that these fields have.", Guard: seeNotices, Do: api.Data(s.noticeValues)},
	}
	for _, typ := range notify.Types() {
		list = append(list, s.sectionCalls(at+"/endpoints/"+typ, typ, "a target of type "+typ)...)
	}
	return append(list, s.sectionCalls(at+"/matchers", notify.Matcher, "a matcher")...)
}

// sectionCalls are the calls about sections of one type.
func (s *Server) sectionCalls(at, typ, what string) []api.Call {
	can := noticeParams{
		sections.Of(notify.Properties(typ), true), sections.Of(notify.Properties(typ), false),
		sections.Of(notify.SecretProperties(typ), true), sections.Of(notify.SecretProperties(typ), false),
	}
	remove := slices.Concat(can.edit, can.editSecrets).Removal()
	return []api.Call{
		{
			Method: "GET", Path: at, Doc: "List what there is of " + what + ".", Guard: seeNotices,
			Do: api.Data(func(_ context.Context, r *api.Request) ([]map[string]any, error) { return s.listNotices(r, typ) }),
		},
		{
			Method: "POST", Path: at, Doc: "Add " + what + ".", Guard: setNotices,
			Params: slices.Concat([]api.AnyParam{noticeName}, can.fresh.Params(), can.freshSecrets.Params()),
			Do: api.Nothing(func(ctx context.Context, r *api.Request) error {
				return s.changeNotice(ctx, notify.Change{
					Type: typ, Name: noticeName.Of(r), Add: true, Values: can.fresh.Values(r), Secrets: can.freshSecrets.Values(r),
				})
			}),
		},
		{
			Method: "GET", Path: at + "/{name}", Doc: "Show " + what + ", without its secrets.", Guard: seeNotices, Params: []api.AnyParam{noticeName},
			Do: api.Data(func(_ context.Context, r *api.Request) (map[string]any, error) { return s.showNotice(r, typ) }),
		},
		{
			Method: "PUT", Path: at + "/{name}", Doc: "Change " + what + ".", Guard: setNotices,
			Params: slices.Concat([]api.AnyParam{noticeName, remove, params.digest}, can.edit.Params(), can.editSecrets.Params()),
			Do: api.Nothing(func(ctx context.Context, r *api.Request) error {
				c := notify.Change{
					Type: typ, Name: noticeName.Of(r), Digest: params.digest.Of(r), Values: can.edit.Values(r), Secrets: can.editSecrets.Values(r),
				}
				for _, key := range remove.Of(r) {
					if slices.Contains(can.edit.Keys(), key) {
						c.Values = sections.Merged(c.Values, []string{key})
					} else {
						c.Secrets = sections.Merged(c.Secrets, []string{key})
					}
				}
				return s.changeNotice(ctx, c)
			}),
		},
		{
			Method: "DELETE", Path: at + "/{name}", Doc: "Remove " + what + "; a target that a matcher names stays.", Guard: setNotices,
			Params: []api.AnyParam{noticeName, params.digest},
			Do: api.Nothing(func(ctx context.Context, r *api.Request) error {
				return notify.Remove(ctx, s.opt.Config, typ, noticeName.Of(r), params.digest.Of(r))
			}),
		},
	}
}

// noticeParams are the parameters of calls that add and change a section.
type noticeParams struct{ fresh, edit, freshSecrets, editSecrets sections.Fields }

func (s *Server) changeNotice(ctx context.Context, c notify.Change) error {
	return c.Apply(ctx, s.opt.Config, s.noticeOptions())
}

// noticeItem is a section; secrets are not in it, but what they are called.
func noticeItem(b *notify.Book, sec *sectionconfig.Section) map[string]any {
	item := property.Item(sec, notify.Properties(sec.Type))
	item["name"], item["origin"] = sec.ID, "user-created"
	var secrets []string
	for _, name := range b.SecretNames(sec.ID) {
		secrets = append(secrets, "name="+name)
	}
	if secrets != nil {
		item["secret"] = secrets
	}
	return item
}

func (s *Server) listNotices(r *api.Request, typ string) ([]map[string]any, error) {
	b, err := notify.Read(s.opt.Config)
	if err != nil {
		return nil, err
	}
	r.Set("digest", b.Digest.String())
	list := []map[string]any{}
	for _, sec := range b.Of(typ) {
		list = append(list, noticeItem(b, sec))
	}
	return list, nil
}

func (s *Server) showNotice(r *api.Request, typ string) (map[string]any, error) {
	b, err := notify.Read(s.opt.Config)
	if err != nil {
		return nil, err
	}
	r.Set("digest", b.Digest.String())
	sec, err := b.Find(typ, noticeName.Of(r))
	if err != nil {
		return nil, err
	}
	return noticeItem(b, sec), nil
}

// targetItem is a target in the list of all.
type targetItem struct {
	Name    string `json:"name"`
	Type    string `json:"type"`
	Comment string `json:"comment,omitempty"`
	Disable bool   `json:"disable,omitempty"`
	Origin  string `json:"origin" doc:"user-created: there are none of other kinds"`
}

func (s *Server) listTargets(context.Context, *api.Request) ([]targetItem, error) {
	b, err := notify.Read(s.opt.Config)
	if err != nil {
		return nil, err
	}
	list := []targetItem{}
	for _, typ := range notify.Types() {
		for _, sec := range b.Of(typ) {
			comment, _ := sec.Get("comment")
			off, _ := sec.Bool("disable", false) // what cannot be read is not switched off
			list = append(list, targetItem{sec.ID, typ, comment, off, "user-created"})
		}
	}
	slices.SortFunc(list, func(a, b targetItem) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func (s *Server) testTarget(ctx context.Context, r *api.Request) error {
	return s.TestNotification(ctx, noticeName.Of(r))
}

// TestNotification sends a message to a target, once.
func (s *Server) TestNotification(ctx context.Context, name string) error {
	c, err := s.Notifications()
	if err != nil {
		return err
	}
	target, ok := c.Find(name)
	if !ok {
		return fmt.Errorf("target %q: %w: one that is disabled or cannot be read is left out", name, notify.ErrNotFound)
	}
	return target.Send(ctx, notify.Message{
		Severity: notify.Info, Title: "Holdfast: a test", Text: "This is a test of the target '" + name + "'.\n", Time: s.now(),
		Fields: map[string]string{"type": "test", "hostname": s.opt.Node},
	})
}

// fieldItem is a field of messages.
type fieldItem struct {
	Name string `json:"name"`
}

func (s *Server) noticeFields(context.Context, *api.Request) ([]fieldItem, error) {
	return []fieldItem{{"datastore"}, {"hostname"}, {"job-id"}, {"media-pool"}, {"type"}}, nil
}

// valueItem is a value that a field can have.
type valueItem struct {
	Field   string `json:"field"`
	Value   string `json:"value"`
	Comment string `json:"comment,omitempty"`
}

func (s *Server) noticeValues(context.Context, *api.Request) ([]valueItem, error) {
	list := []valueItem{{"hostname", s.opt.Node, ""}}
	configs, err := s.stores.List()
	if err != nil {
		return nil, err
	}
	for _, c := range configs {
		list = append(list, valueItem{"datastore", c.Name, c.Comment})
	}
	for _, k := range []jobs.Kind{jobs.Prune, jobs.Verify, jobs.Sync, jobs.Tape} {
		all, _, err := jobs.LoadKind(s.opt.Config, k)
		if err != nil {
			return nil, err
		}
		for _, j := range all {
			list = append(list, valueItem{"job-id", j.ID, j.Comment})
		}
	}
	types := map[string]bool{tapeLoad: true}
	for _, d := range deeds {
		types[d.typ] = true
	}
	for typ := range maps.Keys(types) {
		list = append(list, valueItem{"type", typ, ""})
	}
	slices.SortFunc(list, func(a, b valueItem) int {
		return cmp.Or(strings.Compare(a.Field, b.Field), strings.Compare(a.Value, b.Value))
	})
	return list, nil
}
