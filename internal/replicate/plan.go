package replicate

import (
	"slices"

	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// verb is what is done with a snapshot.
type verb int

const (
	add    verb = iota // it is new at the target
	mend               // the target's is damaged
	addLog             // it is there; its log may have come later
)

// step is one thing to do in a group.
type step struct {
	verb verb
	snap repo.SnapshotInfo // at the source
	// leftover says that the target has a part of it, of a run that was killed.
	leftover bool
}

// plan is what is to be done in a group, in order.
type plan struct {
	steps   []step
	gone    []repo.SnapshotInfo // of the target, to be removed
	old     int                 // left out: older than the newest of the target
	cut     int                 // left out: there are enough newer ones
	filter  int                 // left out: not encrypted, or not verified
	running int                 // left out: not finished
}

// decide compares the snapshots of a group at both ends. It opens and changes
// nothing.
func decide(src, dst []repo.SnapshotInfo, o Options) (p plan) {
	there := map[int64]repo.SnapshotInfo{}
	newest := int64(-1 << 62)
	for _, s := range dst {
		there[s.Snapshot.Time] = s
		if s.Finished {
			newest = max(newest, s.Snapshot.Time)
		}
	}
	listed := map[int64]bool{}
	var list []repo.SnapshotInfo
	for _, s := range src {
		listed[s.Snapshot.Time] = true
		switch {
		case !s.Finished:
			p.running++
		case o.EncryptedOnly && !encrypted(s), o.VerifiedOnly && (s.Verify == nil || s.Verify.State != manifest.VerifyOK):
			p.filter++
		default:
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b repo.SnapshotInfo) int { return a.Snapshot.Compare(b.Snapshot) })
	first := 0
	if o.TransferLast > 0 {
		first = max(0, len(list)-o.TransferLast)
	}
	for i, s := range list {
		have, ok := there[s.Snapshot.Time]
		switch {
		case ok && have.Finished && o.ResyncCorrupt && spoilt(have):
			p.steps = append(p.steps, step{verb: mend, snap: s})
		case ok && have.Finished && s.Snapshot.Time == newest && s.Problem == nil:
			p.steps = append(p.steps, step{verb: addLog, snap: s})
		case s.Snapshot.Time <= newest:
			p.old++
		case i < first:
			p.cut++
		default:
			p.steps = append(p.steps, step{verb: add, snap: s, leftover: ok})
		}
	}
	if o.RemoveVanished {
		for _, s := range dst {
			if s.Finished && !listed[s.Snapshot.Time] && !s.Protected {
				p.gone = append(p.gone, s)
			}
		}
	}
	return p
}

// encrypted reports whether nothing of a snapshot can be read without its key.
func encrypted(s repo.SnapshotInfo) bool {
	return len(s.Files) > 0 && !slices.ContainsFunc(s.Files, func(f manifest.File) bool { return f.CryptMode != manifest.ModeEncrypt })
}

// spoilt reports whether a snapshot of the target is known to be damaged.
func spoilt(s repo.SnapshotInfo) bool {
	return isDamage(s.Problem) || s.Verify != nil && s.Verify.State == manifest.VerifyFailed
}
