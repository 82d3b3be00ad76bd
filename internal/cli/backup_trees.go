package cli

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/tree"
	"github.com/spf13/cobra"
)

// treeFlags say how directories are backed up.
type treeFlags struct {
	detection string
	walk      walkFlags
	container containerFlags
}

func (o *treeFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.detection, "change-detection-mode", "", "legacy, data or metadata (default: as the snapshot before, metadata for a first one)")
	complete(cmd, "change-detection-mode", cobra.FixedCompletions([]string{"data", "legacy", "metadata"}, noFiles))
	o.walk.add(f)
	o.container.add(f)
}

// tree is what the flags ask for, for any directory.
func (o *treeFlags) tree() (t backup.Tree, err error) {
	if t.Detection, err = backup.ParseDetection(o.detection); err != nil {
		return t, usage(fmt.Errorf("--change-detection-mode: %w", err))
	}
	if t.Options, err = o.walk.options(o.container.excludes()...); err != nil {
		return t, err
	}
	t.Options.IDs, err = o.container.load()
	return t, err
}

// openTree checks a directory before the backup starts.
func (s *backupSources) openTree(a *app, b *backupSource) error {
	info, err := os.Stat(b.path)
	if err != nil {
		return pathError(err)
	}
	if !info.IsDir() {
		return hint(fmt.Errorf("%s is no directory", b.path), "end the name in .img for a disk image, in .conf for a small file")
	}
	t := s.tree
	t.Path = b.path
	t.Options.Problem = a.treeProblems(b.archive.ClientName())
	b.src.Tree = &t
	return nil
}

// maxTold is how many problems of one directory are told.
const maxTold = 200

// treeProblems tells people what went wrong in a directory, up to a number.
func (a *app) treeProblems(name string) func(tree.Problem) {
	var mu sync.Mutex
	told := 0
	return func(p tree.Problem) {
		mu.Lock()
		defer mu.Unlock()
		switch told++; {
		case told <= maxTold:
			a.warn("%s: %s", name, p)
		case told == maxTold+1:
			a.warn("%s: and more; they are counted in the result", name)
		}
	}
}

// treeJSON is what became of a directory.
type treeJSON struct {
	Entries     int64 `json:"entries"`
	Directories int64 `json:"directories"`
	Files       int64 `json:"files"`
	Hardlinks   int64 `json:"hardlinks"`
	Others      int64 `json:"others"`
	Bytes       int64 `json:"bytes"` // of contents
	ReusedFiles int64 `json:"reused-files"`
	ReusedBytes int64 `json:"reused-bytes"`
	Excluded    int64 `json:"excluded"`
	Foreign     int64 `json:"other-file-systems"`
	Problems    int64 `json:"problems"`
}

func treeOf(r *tree.Report) *treeJSON {
	if r == nil {
		return nil
	}
	return &treeJSON{
		r.Entries, r.Directories, r.Files, r.Hardlinks, r.Others, r.Bytes, r.ReusedFiles, r.ReusedBytes, r.Excluded, r.Foreign, r.Problems,
	}
}

// treeLine sums a directory up.
func treeLine(name string, r *tree.Report) string {
	text := fmt.Sprintf("%s: %s in %s", name, plural(r.Files, "file"), plural(r.Directories+1, "directory"))
	for _, part := range []struct {
		n    int64
		text string
	}{
		{r.ReusedFiles, fmt.Sprintf("%d unchanged and not read", r.ReusedFiles)},
		{r.Excluded, plural(r.Excluded, "entry") + " excluded"},
		{r.Foreign, fmt.Sprintf("%d on other file systems left empty", r.Foreign)},
		{r.Problems, plural(r.Problems, "problem")},
	} {
		if part.n > 0 {
			text += ", " + part.text
		}
	}
	return text
}

// explainTree adds the flag that helps.
func explainTree(err error) error {
	if errors.Is(err, tree.ErrTooMany) {
		return hint(err, "--entries-max raises the limit, for about 30 bytes of memory a name")
	}
	return err
}
