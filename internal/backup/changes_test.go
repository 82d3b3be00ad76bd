package backup_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

func TestChangedMapIsSortedAndJoined(t *testing.T) {
	c, err := backup.ReadChangedMap(strings.NewReader(`{"size": 100, "base": "vm/100/2026-01-02T03:04:05Z",
		"extents": [{"offset": 50, "length": 10}, {"offset": 10, "length": 5}, {"offset": 0, "length": 0}, {"length": 12, "offset": 55}, {"offset": 15, "length": 1}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []backup.Dirty{{Offset: 10, Length: 6}, {Offset: 50, Length: 17}}
	if fmt.Sprint(c.Extents) != fmt.Sprint(want) || c.Bytes() != 23 {
		t.Fatalf("extents %v", c.Extents)
	}
}

func TestBadChangedMapsAreRefused(t *testing.T) {
	const base = `"base": "vm/100/2026-01-02T03:04:05Z"`
	for _, text := range []string{
		``, `null`, `[]`, `{}`, `{"size": 1}`,
		`{` + base + `, "size": 0, "extents": []}`,
		`{` + base + `, "size": -5, "extents": []}`,
		`{"base": "", "size": 5, "extents": []}`,
		`{` + base + `, "size": 5, "extents": []} x`,
		`{` + base + `, "size": 5, "size": 6, "extents": []}`,
		`{` + base + `, "size": 5, "extents": [], "more": 1}`,
		`{` + base + `, "size": 5, "extents": [{"offset": 0, "length": 6}]}`,
		`{` + base + `, "size": 5, "extents": [{"offset": -1, "length": 2}]}`,
		`{` + base + `, "size": 5, "extents": [{"offset": 1, "length": -1}]}`,
		fmt.Sprintf(`{%s, "size": 5, "extents": [{"offset": %d, "length": %d}]}`, base, int64(math.MaxInt64), int64(math.MaxInt64)),
		fmt.Sprintf(`{%s, "size": %d, "extents": [{"offset": %d, "length": 1}]}`, base, int64(math.MaxInt64), int64(math.MaxInt64)),
		`{` + base + `, "size": 5, "extents": [` + strings.Repeat("{},", 1<<20) + `{}]}`,
		`{` + base + `, "size": 5, "extents": ` + strings.Repeat("[", 100_000),
	} {
		if c, err := backup.ReadChangedMap(strings.NewReader(text)); !errors.Is(err, backup.ErrMap) {
			t.Errorf("%.80s: %v, %v", text, c, err)
		}
	}
}

func TestMapForAnotherBaseOrSizeIsRefused(t *testing.T) {
	img := randomImage(rng(1), 4*chunk)
	m := repotest.New()
	withMap := func(n int64, base string, size int64) error {
		j := job(n, img)
		j.Sources[0].Changes = &backup.ChangedMap{Base: base, Size: size}
		_, err := backup.Run(t.Context(), m, j)
		clean(t, m)
		return err
	}
	if err := withMap(0, at(0).Path(), img.Size()); !errors.Is(err, backup.ErrOtherBase) {
		t.Errorf("no previous: %v", err)
	}
	run(t, m, job(0, img))
	run(t, m, job(1, img))
	if err := withMap(2, at(0).Path(), img.Size()); !errors.Is(err, backup.ErrOtherBase) {
		t.Errorf("older base: %v", err)
	}
	if err := withMap(2, "ns/a/"+at(1).Path(), img.Size()); !errors.Is(err, backup.ErrOtherBase) {
		t.Errorf("other namespace: %v", err)
	}
	if err := withMap(2, at(1).Path(), img.Size()-1); !errors.Is(err, backup.ErrMap) {
		t.Errorf("other size: %v", err)
	}
	if err := withMap(2, "nonsense", img.Size()); err == nil {
		t.Error("nonsense was accepted")
	}
	if m.Snapshots() != 2 {
		t.Errorf("%d snapshots", m.Snapshots())
	}
}

// What reads as a map covers its image with extents that lie within it.
func FuzzChangedMap(f *testing.F) {
	f.Add(`{"base": "vm/100/2026-01-02T03:04:05Z", "size": 100, "extents": [{"offset": 50, "length": 10}, {"offset": 10, "length": 5}]}`)
	f.Add(`{"base": "x", "size": 9223372036854775807, "extents": [{"offset": 9223372036854775806, "length": 1}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := backup.ReadChangedMap(strings.NewReader(text))
		if err != nil {
			return
		}
		img, err := backup.WithChanges(holes(c.Size), c)
		if err != nil {
			t.Fatal(err)
		}
		var dirty int64
		for off := int64(0); off < c.Size; {
			e, err := image.ExtentAt(img, off)
			if err != nil || e.Offset != off || e.Length <= 0 || e.Length > c.Size-off {
				t.Fatalf("extent %+v at %d, %v", e, off, err)
			}
			if e.Kind != image.Unchanged {
				dirty += e.Length
			}
			if off += e.Length; e.Length == 512<<20 {
				return // a huge dirty range: its pieces are the image's affair
			}
		}
		if dirty != c.Bytes() {
			t.Fatalf("%d bytes are dirty, the map has %d", dirty, c.Bytes())
		}
		if text, err := json.Marshal(c); err != nil {
			t.Fatal(err)
		} else if back, err := backup.ReadChangedMap(strings.NewReader(string(text))); err != nil || back.Bytes() != c.Bytes() {
			t.Fatalf("%s: %v", text, err)
		}
	})
}
