// Package listing is what is told of media, and of what is on them, in the form of
// the calls of PBS: for commands and for a server.
//
// # Source
//
// proxmox-rs: pbs-api-types/src/tape/.
package listing

import (
	"cmp"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/config"
	"github.com/holdfast-backup/holdfast/internal/tape/job"
	"github.com/holdfast-backup/holdfast/internal/tape/media"
)

// Source is where it comes from.
type Source struct {
	State  *media.State
	Config config.Config
	Now    time.Time
}

// Labels is a medium by its labels.
type Labels struct {
	Text     string `json:"label-text"`
	UUID     string `json:"uuid"`
	Ctime    int64  `json:"ctime"`
	Pool     string `json:"pool,omitempty"`
	SetUUID  string `json:"media-set-uuid,omitempty"`
	SetCtime *int64 `json:"media-set-ctime,omitempty"`
	Seq      *int64 `json:"seq-nr,omitempty"`
	Key      string `json:"encryption-key-fingerprint,omitempty"`
}

// LabelsOf puts labels in their form. A label that only reserves a medium for a pool
// is no media set.
func LabelsOf(l tapefile.Label, set *tapefile.SetLabel) Labels {
	item := Labels{Text: l.Text, UUID: l.UUID.String(), Ctime: l.Ctime, Pool: l.Pool}
	if set == nil {
		return item
	}
	item.Pool = set.Pool
	if set.Unassigned() {
		return item
	}
	seq := int64(set.Seq)
	item.SetUUID, item.SetCtime, item.Seq = set.UUID.String(), &set.Ctime, &seq
	if !set.Key.IsZero() {
		item.Key = set.Key.String()
	}
	return item
}

// Medium is a medium of the inventory.
type Medium struct {
	Labels
	SetName  string `json:"media-set-name,omitempty"`
	Location string `json:"location"`
	Status   string `json:"status"`
	Expired  bool   `json:"expired"` // it may be overwritten
	Catalog  bool   `json:"catalog"`
	Used     *int64 `json:"bytes-used,omitempty"`
}

// view is how the pools see the inventory.
type view struct {
	Source
	inv   *media.Inventory
	pools map[string]media.Pool
	views map[string]media.View
}

func (s Source) view() (view, error) {
	v := view{Source: s, pools: map[string]media.Pool{}, views: map[string]media.View{}}
	var err error
	if v.inv, err = s.State.Inventory(); err != nil {
		return v, err
	}
	pools, err := s.Config.Pools()
	if err != nil {
		return v, err
	}
	for _, p := range pools {
		v.pools[p.Name] = p
		if v.views[p.Name], err = media.NewView(v.inv, p, s.Now, s.State.Location()); err != nil {
			return v, err
		}
	}
	return v, nil
}

// setName is the name of the media set of a medium, "" for none.
func (v view) setName(m media.Medium) string {
	if !m.InSet() {
		return ""
	}
	return v.inv.SetName(m.Set.UUID, v.pools[m.Pool()].Template, v.State.Location())
}

// status is what a medium is good for. Of a pool that is not configured nothing is
// known; what is in no pool is what it is.
func (v view) status(m media.Medium) (status media.Status, expired bool) {
	if pool, ok := v.views[m.Pool()]; ok {
		return pool.Status(m), pool.Expired(m, v.Now)
	}
	switch {
	case m.Status != "":
		return m.Status, false
	case m.Pool() == "" && !m.InSet():
		return media.Writable, false
	}
	return media.Unknown, false
}

// Media lists the media of which want says so, by their label texts.
func (s Source) Media(want func(media.Medium) bool) ([]Medium, error) {
	v, err := s.view()
	if err != nil {
		return nil, err
	}
	list := []Medium{}
	for m := range v.inv.Media() {
		if !want(m) {
			continue
		}
		item := Medium{Labels: LabelsOf(m.Label, m.Set), SetName: v.setName(m), Location: m.Location.String(), Used: m.Used}
		status, expired := v.status(m)
		item.Status, item.Expired, item.Pool = string(status), expired, m.Pool()
		there, err := s.State.HasCatalog(m)
		if err != nil {
			return nil, err
		}
		item.Catalog = there || !m.InSet() // which has nothing that a catalog could name
		list = append(list, item)
	}
	slices.SortFunc(list, func(a, b Medium) int { return cmp.Or(cmp.Compare(a.Text, b.Text), cmp.Compare(a.UUID, b.UUID)) })
	return list, nil
}

// Set is a media set.
type Set struct {
	Name  string `json:"media-set-name"`
	UUID  string `json:"media-set-uuid"`
	Ctime int64  `json:"media-set-ctime"`
	Pool  string `json:"pool"`
}

// Sets lists the media sets with media of which want says so, the oldest first.
func (s Source) Sets(want func(media.Medium) bool) ([]Set, error) {
	v, err := s.view()
	if err != nil {
		return nil, err
	}
	list, seen := []Set{}, map[string]bool{}
	for m := range v.inv.Media() {
		if !m.InSet() || !want(m) || seen[m.Set.UUID.String()] {
			continue
		}
		start, ok := v.inv.Start(m.Set.UUID)
		if !ok {
			start = m.Set.Ctime
		}
		item := Set{v.setName(m), m.Set.UUID.String(), start, m.Pool()}
		seen[item.UUID] = true
		list = append(list, item)
	}
	slices.SortFunc(list, func(a, b Set) int { return cmp.Or(cmp.Compare(a.Ctime, b.Ctime), cmp.Compare(a.UUID, b.UUID)) })
	return list, nil
}

// Content is a snapshot on a medium.
type Content struct {
	Text     string `json:"label-text"`
	UUID     string `json:"uuid"`
	SetName  string `json:"media-set-name"`
	SetUUID  string `json:"media-set-uuid"`
	SetCtime int64  `json:"media-set-ctime"`
	Seq      int64  `json:"seq-nr"`
	Pool     string `json:"pool"`
	Store    string `json:"store"`
	Snapshot string `json:"snapshot"`
	Time     int64  `json:"backup-time"`
}

// Contents lists the snapshots that the catalogs name of media of which want says
// so, by media set, store and snapshot. missing are media whose catalogs are not
// here.
func (s Source) Contents(want func(media.Medium) bool) (list []Content, missing []media.Medium, err error) {
	v, err := s.view()
	if err != nil {
		return nil, nil, err
	}
	list = []Content{}
	for m := range v.inv.Media() {
		if !m.InSet() || !want(m) {
			continue
		}
		there, err := s.State.HasCatalog(m)
		if err != nil {
			return nil, nil, err
		}
		if !there {
			missing = append(missing, m)
			continue
		}
		snaps, err := s.State.Snapshots(m)
		if err != nil {
			return nil, nil, err
		}
		for _, text := range snaps {
			c, err := job.ParseChoice(text)
			if err != nil {
				return nil, nil, err
			}
			list = append(list, Content{
				m.Label.Text, m.UUID().String(), v.setName(m), m.Set.UUID.String(), m.Set.Ctime, int64(m.Set.Seq), m.Pool(),
				c.Store, c.Snapshot.Path(), c.Snapshot.Time,
			})
		}
	}
	slices.SortFunc(list, func(a, b Content) int {
		return cmp.Or(cmp.Compare(a.SetUUID, b.SetUUID), cmp.Compare(a.Store, b.Store), cmp.Compare(a.Snapshot, b.Snapshot))
	})
	return list, missing, nil
}

// Element is a place in a changer.
type Element struct {
	Kind  string  `json:"entry-kind"` // drive, slot or import-export
	ID    int     `json:"entry-id"`
	Label *string `json:"label-text,omitempty"` // nil: it is empty; "": the medium has no barcode
	From  *int    `json:"loaded-slot,omitempty"`
	State string  `json:"state,omitempty"` // what a drive is busy with
}

// Elements lists the places of a changer: drives, then slots. exports are slots
// that count as such for import and export besides.
func Elements(st tape.ChangerStatus, exports []int) []Element {
	list := []Element{}
	for i, d := range st.Drives {
		e := Element{Kind: "drive", ID: i, Label: label(d.Content)}
		if d.From > 0 {
			e.From = &d.From
		}
		list = append(list, e)
	}
	for i, s := range st.Slots {
		e := Element{Kind: "slot", ID: i + 1, Label: label(s.Content)}
		if s.ImportExport || slices.Contains(exports, i+1) {
			e.Kind = "import-export"
		}
		list = append(list, e)
	}
	return list
}

func label(c tape.Content) *string {
	if !c.Full {
		return nil
	}
	return &c.Label
}
