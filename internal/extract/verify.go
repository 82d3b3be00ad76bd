package extract

import (
	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/idmap"
)

// VerifyOptions says what a directory is compared in. It should be that which it
// was filled with.
type VerifyOptions struct {
	Skip     filemeta.Set // metadata that is not compared
	KeepRoot bool         // neither is that of the target directory
	IDs      *idmap.Map
	Problem  func(Problem) // entries that are missing or other ones; nil: they are only counted
	Counters *Counters     // progress; nil: not counted
}

// Verification says how a directory differs from an archive. What is in the
// directory and not in the archive does not count.
type Verification struct {
	Same    Count // entries that are there, with this content
	Missing int64 // not there, or something else
	Content int64 // files with other contents
	Unread  int64 // files that this user may not read, with the right size
	Differ  [filemeta.Kinds]Difference
}

// Difference is how many entries differ in one kind of metadata.
type Difference struct {
	Count int64
	Path  string // the first one
}

// Explained reports whether all differences are what r says could not be made or
// not be set.
func (v *Verification) Explained(r *Result) bool {
	if v.Content > 0 || v.Missing > r.Failed.Entries() {
		return false
	}
	for w, d := range v.Differ {
		if d.Count > r.NotSet[w].Count {
			return false
		}
	}
	return true
}

func (v *Verification) differ(path string, kinds filemeta.Set) {
	for w := range filemeta.Kinds {
		if kinds.Has(w) {
			if v.Differ[w].Count++; v.Differ[w].Path == "" {
				v.Differ[w].Path = path
			}
		}
	}
}

// problem counts an entry that is not what it should be.
func (v *Verification) problem(o *VerifyOptions, n *int64, path string, kind pxar.Kind, err error) {
	*n++
	if o.Problem != nil {
		o.Problem(Problem{path, kind, err})
	}
}
