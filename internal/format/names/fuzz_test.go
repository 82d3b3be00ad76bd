package names_test

import (
	"path"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/names"
)

// What parses must print as it was read, and as a path must stay where it is.
func FuzzParsersAndStringsAreInverse(f *testing.F) {
	g := readGolden(f)
	for _, tc := range g.SnapshotPath {
		f.Add(tc.Path)
	}
	for _, s := range append(g.Namespace.Valid, g.Namespace.Invalid...) {
		f.Add(s)
	}
	for _, s := range []string{"ns/a/ns/b/host/x/2020-06-26T13:56:05Z", "vm/100", "drive.img.fidx", "root@pam!tok", "x.conf", "2024-06-05T16:24:36+02:00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if v, err := names.ParseGroup(s); err == nil && v.String() != s {
			t.Errorf("group %q prints as %q", s, v)
		}
		if v, err := names.ParseNamespace(s); err == nil && v.String() != s {
			t.Errorf("namespace %q prints as %q", s, v)
		}
		if v, err := names.ParseSnapshot(s); err == nil && (v.Path() != s || path.Clean("/"+s) != "/"+s) {
			t.Errorf("snapshot %q has path %q", s, v.Path())
		}
		if v, err := names.ParseArchive(s); err == nil && (v.String() != s || path.Base(s) != s) {
			t.Errorf("archive %q prints as %q", s, v)
		}
		if v, err := names.ServerName(s); err == nil {
			if again, err := names.ParseArchive(v.String()); err != nil || again != v {
				t.Errorf("server name %q of %q does not parse: %v", v, s, err)
			}
		}
		if v, err := names.ParseAuthID(s); err == nil && v.String() != s {
			t.Errorf("auth id %q prints as %q", s, v)
		}
		if v, err := names.ParseTime(s); err == nil && names.FormatTime(v) != s {
			t.Errorf("time %q prints as %q", s, names.FormatTime(v))
		}
		if v, err := names.ParseRFC3339(s); err == nil {
			if again, err := names.ParseTime(names.FormatTime(v)); err != nil || again != v {
				t.Errorf("time %q = %d does not survive a round trip: %d, %v", s, v, again, err)
			}
		}
	})
}
