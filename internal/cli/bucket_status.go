package cli

import (
	"context"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/ui"
)

// bucketKinds are the kinds of objects of a repository, in the order in which they are
// shown.
var bucketKinds = []string{"packs", "indexes", "snapshots", "log", "other"}

// objectKind is the kind of an object, by its key as docs/formats/bucket.md has it.
func objectKind(key string) string {
	dir, rest, _ := strings.Cut(key, "/")
	_, name, _ := strings.Cut(rest, "/")
	switch {
	case dir == "log", dir == "state":
		return "log"
	case dir != "s":
		return "other"
	case name == "snapshot":
		return "snapshots"
	case strings.HasPrefix(name, "p"):
		return "packs"
	case strings.HasPrefix(name, "i"):
		return "indexes"
	}
	return "other"
}

// stored is what objects take.
type stored struct {
	Objects int64 `json:"objects"`
	Bytes   int64 `json:"bytes"`
}

func (s stored) plus(o stored) stored { return stored{s.Objects + o.Objects, s.Bytes + o.Bytes} }

// bucketStatus lists the objects of the repository that was opened.
func (a *app) bucketStatus(ctx context.Context) error {
	s := a.buckets.last()
	kinds, all := map[string]stored{}, stored{}
	for o, err := range objstore.All(ctx, s, "", "") {
		if err != nil {
			return err
		}
		one := stored{1, o.Size}
		kinds[objectKind(o.Key)] = kinds[objectKind(o.Key)].plus(one)
		all = all.plus(one)
	}
	prices, unit, err := a.prices()
	if err != nil {
		return err
	}
	traffic := s.Traffic()
	result := map[string]any{
		"total": all.Bytes, "used": all.Bytes, "avail": 0, "objects": all.Objects, "kinds": kinds, "traffic": trafficOf(traffic, prices),
	}
	return a.print(result, func() error {
		t := ui.Table{Columns: []ui.Column{{Title: ""}, {Title: "OBJECTS", Align: ui.Right}, {Title: "SIZE", Align: ui.Right}}}
		for _, kind := range bucketKinds {
			if k, ok := kinds[kind]; ok {
				t.Add(strings.ToUpper(kind[:1])+kind[1:], strconv.FormatInt(k.Objects, 10), ui.Size(k.Bytes))
			}
		}
		t.Add("All", strconv.FormatInt(all.Objects, 10), ui.Size(all.Bytes))
		if err := a.table(&t); err != nil {
			return err
		}
		return a.printf("asked for this: %s\n", trafficText(traffic, prices, unit))
	})
}
