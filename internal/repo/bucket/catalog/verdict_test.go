package catalog

import (
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
)

func TestDamageOfAnotherPlaceIsNone(t *testing.T) {
	x := newState()
	d := digest.Of([]byte("a"))
	here, there := pack.Location{Pack: pack.ID{Session: 1}, Off: 4, Len: 8}, pack.Location{Pack: pack.ID{Session: 2}, Off: 6, Len: 8}
	for _, tc := range []struct {
		name string
		bad  *Bad // what is known of the chunk
		at   pack.Location
		lost bool // afterwards
	}{
		{"of a chunk that was sound", nil, here, true},
		{"that is known", &Bad{}, here, true},
		{"where another has taken its place", &Bad{Pack: there.Pack, Off: there.Off, Len: there.Len}, here, false},
		{"of the one that took the place", &Bad{Pack: there.Pack, Off: there.Off, Len: there.Len}, there, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			x.Delete(BadKey(d))
			if tc.bad != nil {
				if err := Set(x, BadKey(d), *tc.bad); err != nil {
					t.Fatal(err)
				}
			}
			if err := NoteDamage(x, []Damage{{Chunk: d, At: tc.at}}); err != nil {
				t.Fatal(err)
			}
			got, ok, err := Get[Bad](x, BadKey(d))
			if err != nil || !ok || got.Lost() != tc.lost {
				t.Errorf("%+v, %v, %v", got, ok, err)
			}
		})
	}
}

func TestAMendedSnapshotHasNoVerdictOfBefore(t *testing.T) {
	s := newState()
	m := manifest.New(vm100)
	raw, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if err := Set(s, SnapshotKey(vm100), Snapshot{Session: 7, Manifest: raw}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		made Number
		want bool
	}{{6, false}, {7, true}} {
		if err := SetVerdict(s, vm100, tc.made, manifest.VerifyState{State: manifest.VerifyFailed, UPID: task}); err != nil {
			t.Fatal(err)
		}
		rec, err := NeedSnapshot(s, vm100)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := rec.ParseManifest(vm100); err != nil || (m.VerifyState() != nil) != tc.want {
			t.Errorf("a verdict on what session %d made: %+v, %v", tc.made, m.VerifyState(), err)
		}
	}
}
