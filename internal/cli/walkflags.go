package cli

import (
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/exclude"
	"github.com/holdfast-backup/holdfast/internal/tree"
)

// walkFlags say which part of a directory becomes an archive.
type walkFlags struct {
	exclude        []string
	includeDev     []string
	allFileSystems bool
	skipLostFound  bool
	skipHugeXattrs bool
	entriesMax     int
	readers        int
}

func (o *walkFlags) add(f flagSet) {
	f.StringArrayVar(&o.exclude, "exclude", nil, "leave out what matches this pattern in directories (repeatable; the last match decides, \"!\" in front includes)")
	f.StringArrayVar(&o.includeDev, "include-dev", nil, "in directories, enter the file system that this path is on (repeatable)")
	f.BoolVar(&o.allFileSystems, "all-file-systems", false, "in directories, enter all file systems but virtual ones")
	f.BoolVar(&o.skipLostFound, "skip-lost-and-found", false, "leave lost+found directories out")
	f.BoolVar(&o.skipHugeXattrs, "skip-e2big-xattr", false, "leave out extended attributes that are more than the kernel lists, instead of stopping")
	f.IntVar(&o.entriesMax, "entries-max", tree.DefaultMaxEntries, "names that directories from the top to any one may have together; bounds the memory")
	f.IntVar(&o.readers, "readers", 0, "files opened and read at a time (0: as many as the device gains from)")
}

// options are what the flags ask for. Patterns of first stand before the user's,
// which win.
func (o *walkFlags) options(first ...string) (t tree.Options, err error) {
	for _, text := range append(first, o.exclude...) {
		p, err := exclude.Parse(text, exclude.Exclude)
		if err != nil {
			return t, usage(fmt.Errorf("--exclude: %w", err))
		}
		t.Exclude = append(t.Exclude, p)
	}
	switch {
	case o.allFileSystems && len(o.includeDev) > 0:
		return t, usagef("--all-file-systems and --include-dev exclude each other")
	case o.entriesMax < 1:
		return t, usagef("--entries-max %d: at least 1 is needed", o.entriesMax)
	case o.readers < 0 || o.readers > tree.MaxReaders:
		return t, usagef("--readers %d does not lie between 0 and %d", o.readers, tree.MaxReaders)
	}
	t.AllFileSystems, t.IncludeDev = o.allFileSystems, o.includeDev
	t.SkipLostAndFound, t.SkipHugeXattrs = o.skipLostFound, o.skipHugeXattrs
	t.MaxEntries, t.Readers = o.entriesMax, o.readers
	return t, nil
}
