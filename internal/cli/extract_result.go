package cli

import (
	"fmt"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/extract"
	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/ui"
)

// countJSON is a number of entries by kind.
type countJSON struct {
	Files       int64 `json:"files"`
	Directories int64 `json:"directories"`
	Symlinks    int64 `json:"symlinks"`
	Hardlinks   int64 `json:"hardlinks"`
	Devices     int64 `json:"devices"`
	FIFOs       int64 `json:"fifos"`
	Sockets     int64 `json:"sockets"`
	Bytes       int64 `json:"bytes"` // of contents
}

func countOf(c extract.Count) countJSON {
	return countJSON{c.Files, c.Dirs, c.Symlinks, c.Hardlinks, c.Devices, c.FIFOs, c.Sockets, c.Bytes}
}

// extractJSON is what became of an archive.
type extractJSON struct {
	Archived countJSON     `json:"archived"` // in the archive, or the part of it
	Made     countJSON     `json:"made"`
	Same     countJSON     `json:"same"`    // in place: was there
	Changed  int64         `json:"changed"` // of the same: metadata was set
	Failed   int64         `json:"failed"`
	Damaged  int64         `json:"damaged"` // of the failed
	Devices  int64         `json:"devices-not-made"`
	Deleted  int64         `json:"deleted"`
	Left     int64         `json:"not-deleted"`
	NotSet   []notSet      `json:"not-set"`
	Verified *readBackJSON `json:"verified,omitempty"`
}

// notSet is metadata of one kind that could not be set.
type notSet struct {
	What        string `json:"what"`
	Entries     int64  `json:"entries"`
	Unsupported int64  `json:"unsupported"` // of the entries, by the file system
	First       string `json:"first"`
	Reason      string `json:"reason,omitempty"`
}

// readBackJSON is what reading back found.
type readBackJSON struct {
	Same    countJSON `json:"same"`
	Missing int64     `json:"missing"`
	Content int64     `json:"other-content"`
	Unread  int64     `json:"not-read"` // this user may not
	Differ  []notSet  `json:"other-metadata"`
}

func extractOf(r *extract.Result, v *extract.Verification) extractJSON {
	out := extractJSON{
		Archived: countOf(r.Asked), Made: countOf(r.Made), Same: countOf(r.Same), Changed: r.Changed.Entries(), Failed: r.Failed.Entries(),
		Damaged: r.Damaged.Entries(), Devices: r.Devices, Deleted: r.Deleted, Left: r.Left, NotSet: []notSet{},
	}
	for w, m := range r.NotSet {
		if m.Count > 0 {
			out.NotSet = append(out.NotSet, notSet{filemeta.What(w).String(), m.Count, m.Unsupported, ui.Path(m.Path), oneLine(m.Err)})
		}
	}
	if v == nil {
		return out
	}
	out.Verified = &readBackJSON{Same: countOf(v.Same), Missing: v.Missing, Content: v.Content, Unread: v.Unread, Differ: []notSet{}}
	for w, d := range v.Differ {
		if d.Count > 0 {
			out.Verified.Differ = append(out.Verified.Differ, notSet{What: filemeta.What(w).String(), Entries: d.Count, First: ui.Path(d.Path)})
		}
	}
	return out
}

// others counts what is neither file nor directory.
func others(c extract.Count) int64 { return c.Entries() - c.Files - c.Dirs }

// extractLine sums an archive up: "12 files, 3 directories, 1 other, 4 KiB".
func extractLine(r *extract.Result) string {
	c := r.Asked
	text := plural(c.Files, "file")
	if c.Dirs > 0 {
		text += ", " + directories(c.Dirs)
	}
	if n := others(c); n > 0 {
		text += ", " + plural(n, "other")
	}
	text += ", " + ui.Size(c.Bytes)
	for _, part := range []struct {
		n    int64
		text string
	}{
		{r.Same.Entries(), fmt.Sprintf("%d there already", r.Same.Entries())},
		{r.Changed.Entries(), fmt.Sprintf("%d of them with other metadata", r.Changed.Entries())},
		{r.Deleted, fmt.Sprintf("%d deleted", r.Deleted)},
		{r.Failed.Entries(), fmt.Sprintf("%d failed", r.Failed.Entries())},
	} {
		if part.n > 0 {
			text += ", " + part.text
		}
	}
	return text
}

func directories(n int64) string {
	if n == 1 {
		return "1 directory"
	}
	return fmt.Sprintf("%d directories", n)
}

// tellNotSet says what could not be set, a line for each kind.
func (a *app) tellNotSet(r *extract.Result, name string) {
	for w, m := range r.NotSet {
		if m.Count > 0 {
			a.warn("%s: %s of %s could not be set, first of %s: %v", name, filemeta.What(w), entries(m.Count), ui.Path(m.Path), oneLine(m.Err))
		}
	}
	if r.Devices > 0 {
		a.warn("%s: %s could not be made: this user may not", name, plural(r.Devices, "device"))
	}
}

// oneLine is an error that may be several.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// tellVerified says in what the target differs.
func (a *app) tellVerified(v *extract.Verification, name string) {
	if v.Unread > 0 {
		a.warn("%s: %s could not be read back: this user may not", name, plural(v.Unread, "file"))
	}
	for w, d := range v.Differ {
		if d.Count > 0 {
			a.warn("%s: %s of %s differ from the archive, first of %s", name, filemeta.What(w), entries(d.Count), ui.Path(d.Path))
		}
	}
}

// tellFlaws says that an archive that was read in a row has wrong tables.
func (a *app) tellFlaws(src extract.Source, name string) {
	r, ok := src.(interface{ Flaws() (int64, error) })
	if !ok {
		return
	}
	if n, first := r.Flaws(); n > 0 {
		a.warn("%s: what it says of the entries of %s is wrong, first: %v; reading in a row does not need that, mounts and restores of parts do",
			name, directories(n), first)
	}
}

func entries(n int64) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}

// extractVerdict is an error when something is not as in the archive.
func extractVerdict(r *extract.Result, v *extract.Verification, skipDevices bool) error {
	failed := r.Failed.Entries()
	if skipDevices {
		failed -= r.Devices
	}
	metadata := int64(0)
	for _, m := range r.NotSet {
		metadata += m.Count
	}
	switch {
	case v != nil && !v.Explained(r):
		return hint(
			fmt.Errorf("the target %w: %s missing, %s with other contents", extract.ErrMismatch, entries(v.Missing), plural(v.Content, "file")),
			"somebody changed it meanwhile, or its disk does not keep what is written",
		)
	case r.Damaged.Entries() > 0:
		return hint(
			mark(errDamaged, "%s could not be restored: the data is missing or damaged", entries(r.Damaged.Entries())),
			"another snapshot may have them; 'holdfast verify' shows which ones are sound",
		)
	case failed > 0:
		return hint(mark(errSkipped, "%s could not be restored, listed above", entries(failed)), "the rest is there")
	case r.Left > 0:
		return hint(mark(errSkipped, "%s could not be deleted, listed above", entries(r.Left)), "the rest is done")
	case metadata > 0:
		return hint(
			mark(errSkipped, "not all metadata could be set, as listed above"),
			"contents are complete; root on a file system with ACLs and attributes can set all, --ignore-ownership and the like accept it",
		)
	}
	return nil
}
