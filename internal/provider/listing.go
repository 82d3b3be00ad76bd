package provider

import (
	"context"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/retention"
)

// entryJSON describes an archive in the words of lists in Proxmox VE.
type entryJSON struct {
	Archive   string      `json:"archive-name"`
	VMID      int         `json:"vmid"`
	Kind      Kind        `json:"subtype"`
	Created   int64       `json:"ctime"`
	Size      int64       `json:"size"`
	Format    string      `json:"format"`
	Parent    string      `json:"parent,omitempty"`
	Notes     string      `json:"notes,omitempty"`
	Protected int         `json:"protected"`
	Encrypted string      `json:"encrypted,omitempty"`
	Verified  *verifyJSON `json:"verification,omitempty"`
}

type verifyJSON struct {
	State string `json:"state"`
	UPID  string `json:"upid"`
}

func entryJSONOf(e Entry) entryJSON {
	j := entryJSON{
		Archive: e.Name, VMID: e.Guest.ID, Kind: e.Guest.Kind, Created: e.Start,
		Size: e.Size, Format: e.Format, Parent: e.Parent, Notes: e.Notes, Encrypted: e.Encrypted,
	}
	if e.Protected {
		j.Protected = 1
	}
	if e.Verified != "" {
		j.Verified = &verifyJSON{e.Verified, e.Verifier}
	}
	return j
}

type usageJSON struct {
	Total int64 `json:"total"`
	Free  int64 `json:"free"`
	Used  int64 `json:"used"`
}

type listArgs struct {
	VMID int  `json:"vmid"`   // 0: all
	Kind Kind `json:"vmtype"` // "": both
}

func (s *Service) list(ctx context.Context, _ Log, a listArgs) (any, error) {
	var g *Guest
	if a.VMID != 0 && a.Kind != "" {
		g = &Guest{a.Kind, a.VMID}
		if err := g.check(); err != nil {
			return nil, err
		}
	}
	all, err := s.store.List(ctx, g)
	if err != nil {
		return nil, err
	}
	list := make([]entryJSON, 0, len(all))
	for _, e := range all {
		if (a.VMID == 0 || e.Guest.ID == a.VMID) && (a.Kind == "" || e.Guest.Kind == a.Kind) {
			list = append(list, entryJSONOf(e))
		}
	}
	return map[string]any{"archives": list}, nil
}

type attributeArgs struct {
	Archive   string  `json:"volname"`
	Notes     *string `json:"notes"`
	Protected *flag   `json:"protected"`
}

func (s *Service) update(ctx context.Context, _ Log, a attributeArgs) (any, error) {
	archive, err := s.parse(a.Archive, "")
	if err != nil {
		return nil, err
	}
	if a.Notes != nil {
		if err := s.store.SetNotes(ctx, archive, *a.Notes); err != nil {
			return nil, err
		}
	}
	if a.Protected != nil {
		return nil, s.store.SetProtected(ctx, archive, bool(*a.Protected))
	}
	return nil, nil
}

type pruneArgs struct {
	VMID int      `json:"vmid"`
	Kind Kind     `json:"vmtype"`
	Keep keepJSON `json:"keep"`
	Dry  flag     `json:"dry-run"`
}

type keepJSON struct {
	All     flag `json:"keep-all"`
	Last    int  `json:"keep-last"`
	Hourly  int  `json:"keep-hourly"`
	Daily   int  `json:"keep-daily"`
	Weekly  int  `json:"keep-weekly"`
	Monthly int  `json:"keep-monthly"`
	Yearly  int  `json:"keep-yearly"`
}

func (k keepJSON) options() (retention.Options, error) {
	o := retention.Options{Last: k.Last, Hourly: k.Hourly, Daily: k.Daily, Weekly: k.Weekly, Monthly: k.Monthly, Yearly: k.Yearly}
	if min(o.Last, o.Hourly, o.Daily, o.Weekly, o.Monthly, o.Yearly) < 0 {
		return o, usagef("a number below zero of backups to keep")
	}
	if !bool(k.All) && o.IsZero() {
		return o, usagef("nothing says what to keep: give keep-all or a number")
	}
	if k.All {
		o = retention.Options{}
	}
	return o, nil
}

type prunedJSON struct {
	Archive string         `json:"archive-name"`
	VMID    int            `json:"vmid"`
	Kind    Kind           `json:"type"`
	Created int64          `json:"ctime"`
	Mark    retention.Mark `json:"mark"`
}

// options are the runs of Prune that a call asks for: a number alone may be that of
// a machine and of a container.
func (a pruneArgs) options() ([]PruneOptions, error) {
	keep, err := a.Keep.options()
	if err != nil {
		return nil, err
	}
	o := PruneOptions{Kind: a.Kind, Keep: keep, DryRun: bool(a.Dry)}
	if a.VMID == 0 {
		return []PruneOptions{o}, nil
	}
	kinds := []Kind{QEMU, LXC}
	if a.Kind != "" {
		kinds = []Kind{a.Kind}
	}
	runs := make([]PruneOptions, 0, len(kinds))
	for _, kind := range kinds {
		o.Guest = &Guest{kind, a.VMID}
		if err := o.Guest.check(); err != nil {
			return nil, err
		}
		runs = append(runs, o)
	}
	return runs, nil
}

// prune removes what is not to be kept. A failure does not hold up the others,
// and is an error in the end.
func (s *Service) prune(ctx context.Context, log Log, a pruneArgs) (any, error) {
	runs, err := a.options()
	if err != nil {
		return nil, err
	}
	list, failed := []prunedJSON{}, 0
	for _, o := range runs {
		verdicts, err := s.store.Prune(ctx, o)
		if err != nil {
			return nil, err
		}
		for _, p := range verdicts {
			if p.Err != nil {
				failed++
				log.printf(Err, "%s is not removed: %v", p.Name, p.Err)
			}
			list = append(list, prunedJSONOf(p))
		}
	}
	if failed > 0 {
		return nil, fmt.Errorf("%d of %d backups could not be removed; the log says why", failed, len(list))
	}
	return map[string]any{"archives": list}, nil
}

func prunedJSONOf(p Pruned) prunedJSON {
	if p.Mark == retention.KeepPartial { // a word that the platform does not know
		p.Mark = retention.Keep
	}
	return prunedJSON{p.Name, p.Guest.ID, p.Guest.Kind, p.Start, p.Mark}
}
