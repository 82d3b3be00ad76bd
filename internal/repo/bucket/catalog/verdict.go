package catalog

import (
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
)

// Damage is a chunk that is not sound, or not there, where it should lie.
type Damage struct {
	Chunk digest.Digest
	At    pack.Location
}

// NoteDamage notes what a verification found, so that the next backup stores it
// again. One that was found damaged before, and of which a sound one lies elsewhere
// by now, is none any more.
func NoteDamage(tx Tx, list []Damage) error {
	for _, d := range list {
		b, known, err := Get[Bad](tx, BadKey(d.Chunk))
		if err != nil {
			return err
		}
		if known && (b.Lost() || b.Place() != d.At) {
			continue
		}
		if err := Set(tx, BadKey(d.Chunk), Bad{}); err != nil {
			return err
		}
	}
	return nil
}

// SetVerdict keeps the verdict on a snapshot, if it still is the one that the session
// made which was verified: a mended one has none yet.
func SetVerdict(tx Tx, n names.Snapshot, made Number, v manifest.VerifyState) error {
	rec, err := NeedSnapshot(tx, n)
	if err != nil || rec.Session != made {
		return err
	}
	return ChangeManifest(tx, n, func(m *manifest.Manifest) { m.SetVerifyState(v) })
}
