package cli

import (
	"fmt"
	"strings"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/extract"
	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/ui"
)

// pxarExistingFlags say what a target may have already.
type pxarExistingFlags struct {
	dirs, all, files, symlinks, hardlinks bool
}

func (o *pxarExistingFlags) add(f flagSet) {
	f.BoolVar(&o.dirs, "allow-existing-dirs", false, "directories may exist already; they get the metadata of the archive")
	f.BoolVar(&o.all, "overwrite", false, "replace whatever exists, but no directories")
	f.BoolVar(&o.files, "overwrite-files", false, "replace what stands where the archive has a file")
	f.BoolVar(&o.symlinks, "overwrite-symlinks", false, "replace what stands where the archive has a symbolic link")
	f.BoolVar(&o.hardlinks, "overwrite-hardlinks", false, "replace what stands where the archive has a hard link")
}

func (o pxarExistingFlags) existing() (e extract.Existing) {
	for _, flag := range []struct {
		given bool
		means extract.Existing
	}{
		{o.dirs, extract.Dirs}, {o.all, extract.Anything}, {o.files, extract.Files}, {o.symlinks, extract.Symlinks}, {o.hardlinks, extract.Hardlinks},
	} {
		if flag.given {
			e |= flag.means
		}
	}
	return e
}

// pxarProblems tells people what could not be extracted, up to a number.
func (a *app) pxarProblems() func(extract.Problem) {
	var mu sync.Mutex
	told := 0
	return func(p extract.Problem) {
		mu.Lock()
		defer mu.Unlock()
		switch told++; {
		case told <= maxTold:
			a.warn("%s: %v", ui.Path(p.Path), p.Err)
		case told == maxTold+1:
			a.warn("and more; they are counted in the result")
		}
	}
}

// pxarExtractJSON is what became of an archive.
type pxarExtractJSON struct {
	Target      string                `json:"target"`
	Entries     int64                 `json:"entries"` // in the archive, or the part that was asked for; with the root
	Files       int64                 `json:"files"`   // made, as all that follows
	Directories int64                 `json:"directories"`
	Symlinks    int64                 `json:"symlinks"`
	Hardlinks   int64                 `json:"hardlinks"`
	Others      int64                 `json:"others"` // devices, FIFOs, sockets
	Bytes       int64                 `json:"bytes"`  // of contents
	Same        int64                 `json:"same"`   // entries that were there already
	Deleted     int64                 `json:"deleted,omitempty"`
	Failed      int64                 `json:"failed"`
	Damaged     int64                 `json:"damaged,omitempty"` // of failed
	NotSet      map[string]pxarMissed `json:"not-set,omitempty"` // by kind of metadata
}

// pxarMissed is metadata that could not be set.
type pxarMissed struct {
	Count       int64  `json:"count"`
	Unsupported int64  `json:"unsupported,omitempty"` // of these, by a file system that has no such thing
	Path        string `json:"path"`                  // the first one
	Error       string `json:"error,omitempty"`
}

func pxarExtractOf(target string, r *extract.Result) pxarExtractJSON {
	m := r.Made
	out := pxarExtractJSON{
		Target: target, Entries: r.Asked.Entries(), Files: m.Files, Directories: m.Dirs, Symlinks: m.Symlinks, Hardlinks: m.Hardlinks,
		Others: m.Devices + m.FIFOs + m.Sockets, Bytes: m.Bytes, Same: r.Same.Entries(), Deleted: r.Deleted, Failed: r.Failed.Entries(), Damaged: r.Damaged.Entries(),
	}
	for w := range filemeta.Kinds {
		n := r.NotSet[w]
		if n.Count == 0 {
			continue
		}
		if out.NotSet == nil {
			out.NotSet = map[string]pxarMissed{}
		}
		shown := pxarMissed{Count: n.Count, Unsupported: n.Unsupported, Path: ui.Path(n.Path)}
		if n.Err != nil {
			shown.Error = n.Err.Error()
		}
		out.NotSet[w.String()] = shown
	}
	return out
}

// pxarExtractLine sums an extraction up.
func pxarExtractLine(target string, r *extract.Result) string {
	m := r.Made
	parts := []string{fmt.Sprintf("%s: %s in %s", target, plural(m.Files, "file"), plural(m.Dirs, "directory"))}
	for _, p := range []struct {
		n    int64
		text string
	}{
		{m.Symlinks + m.Hardlinks, plural(m.Symlinks+m.Hardlinks, "link")},
		{m.Devices + m.FIFOs + m.Sockets, plural(m.Devices+m.FIFOs+m.Sockets, "special file")},
		{r.Same.Entries(), fmt.Sprintf("%d there already", r.Same.Entries())},
		{r.Deleted, fmt.Sprintf("%d deleted", r.Deleted)},
		{r.Failed.Entries(), fmt.Sprintf("%d not made", r.Failed.Entries())},
	} {
		if p.n > 0 {
			parts = append(parts, p.text)
		}
	}
	return strings.Join(append(parts, ui.Size(m.Bytes)), ", ")
}

// warnPxarNotSet tells which metadata could not be set.
func (a *app) warnPxarNotSet(r *extract.Result) {
	for w := range filemeta.Kinds {
		n := r.NotSet[w]
		switch {
		case n.Count == 0:
		case n.Count == n.Unsupported:
			a.warn("%s of %s not set: the file system does not have them", w, plural(n.Count, "entry"))
		default:
			a.warn("%s of %s not set, first of %s: %v", w, plural(n.Count, "entry"), ui.Path(n.Path), n.Err)
		}
	}
}

// pxarVerdict is an error when not all that was asked for is there.
func pxarVerdict(r *extract.Result) error {
	if r.Complete() {
		return nil
	}
	if n := r.Failed.Entries() + r.Left; n > 0 {
		return hint(
			mark(errSkipped, "%s could not be made as the archive has them, listed above", plural(n, "entry")),
			"the rest is there",
		)
	}
	return hint(
		mark(errSkipped, "everything is there, and not all metadata could be set"),
		"root may set all that the file system has; --no-acls, --no-xattrs and their kin say what is not wanted",
	)
}
