package cli

import (
	"errors"
	"fmt"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/exclude"
	"github.com/holdfast-backup/holdfast/internal/extract"
	"github.com/holdfast-backup/holdfast/internal/filemeta"
)

// extractFlags say how a directory is filled from an archive.
type extractFlags struct {
	existingDirs, files, symlinks, hardlinks bool
	owner, permissions, acls, xattrs         bool // ignored
	devices                                  bool // that cannot be made are no problem
	checksum, remove, verify                 bool
	ids                                      idMapFlags
}

func (o *extractFlags) add(f flagSet) {
	f.BoolVar(&o.existingDirs, "allow-existing-dirs", false, "enter directories that exist")
	f.BoolVar(&o.files, "overwrite-files", false, "replace what exists where the archive has a file")
	f.BoolVar(&o.symlinks, "overwrite-symlinks", false, "replace what exists where the archive has a symbolic link")
	f.BoolVar(&o.hardlinks, "overwrite-hardlinks", false, "replace what exists where the archive has a hard link")
	f.BoolVar(&o.owner, "ignore-ownership", false, "do not set owners and groups")
	f.BoolVar(&o.permissions, "ignore-permissions", false, "do not set modes")
	f.BoolVar(&o.acls, "ignore-acls", false, "do not set ACLs")
	f.BoolVar(&o.xattrs, "ignore-xattrs", false, "do not set extended attributes")
	f.BoolVar(&o.devices, "ignore-extract-device-errors", false, "do not mind devices that this user may not make")
	f.BoolVar(&o.checksum, "checksum", false, "with --in-place: compare contents, not only size and time")
	f.BoolVar(&o.remove, "delete", false, "with --in-place: remove what the archive does not have, but nothing that is mounted below")
	f.BoolVar(&o.verify, "verify", false, "read everything back and compare it with the archive")
	o.ids.add(f)
}

// given names one of the flags that is set, "" if none is.
func (o *extractFlags) given() string {
	for _, f := range []struct {
		set  bool
		name string
	}{
		{o.existingDirs, "allow-existing-dirs"},
		{o.files, "overwrite-files"},
		{o.symlinks, "overwrite-symlinks"},
		{o.hardlinks, "overwrite-hardlinks"},
		{o.owner, "ignore-ownership"},
		{o.permissions, "ignore-permissions"},
		{o.acls, "ignore-acls"},
		{o.xattrs, "ignore-xattrs"},
		{o.devices, "ignore-extract-device-errors"},
		{o.checksum, "checksum"},
		{o.remove, "delete"},
		{o.verify, "verify"},
		{len(o.ids.specs) > 0, "id-map"},
		{o.ids.from != "", "id-map-from"},
	} {
		if f.set {
			return f.name
		}
	}
	return ""
}

// options are what the flags ask for; inPlace and overwrite come from flags of
// their own.
func (o *extractFlags) options(inPlace, overwrite bool) (x extract.Options, err error) {
	switch {
	case o.checksum && !inPlace:
		return x, usagef("--checksum goes with --in-place")
	case o.remove && !inPlace:
		return x, usagef("--delete goes with --in-place")
	case inPlace && (o.files || o.symlinks || o.hardlinks || overwrite):
		return x, usagef("--in-place replaces what differs, and flags to overwrite are for restores without it")
	}
	for which, set := range map[extract.Existing]bool{
		extract.Dirs: o.existingDirs, extract.Files: o.files, extract.Symlinks: o.symlinks,
		extract.Hardlinks: o.hardlinks, extract.Anything: overwrite,
	} {
		if set {
			x.Existing |= which
		}
	}
	for which, set := range map[filemeta.What]bool{
		filemeta.Owner: o.owner, filemeta.Mode: o.permissions, filemeta.ACLs: o.acls, filemeta.Xattrs: o.xattrs,
	} {
		if set {
			x.Skip |= filemeta.SetOf(which)
		}
	}
	x.InPlace, x.Checksum, x.Delete, x.SkipDevices = inPlace, o.checksum, o.remove, o.devices
	x.Counters = new(extract.Counters)
	x.IDs, err = o.ids.load()
	return x, err
}

// includePatterns is a list of patterns that say what is restored; nil: all.
func includePatterns(texts []string) (*exclude.List, error) {
	var all []exclude.Pattern
	for _, text := range texts {
		p, err := exclude.Parse(text, exclude.Include)
		if err != nil {
			return nil, usage(fmt.Errorf("--pattern: %w", err))
		}
		all = append(all, p)
	}
	return exclude.NewList(all), nil
}

// extractProblems tells people what could not be made, up to a number.
func (a *app) extractProblems(name string) func(extract.Problem) {
	var mu sync.Mutex
	told := 0
	return func(p extract.Problem) {
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

// explainExtract adds the flags that help.
func explainExtract(err error) error {
	if errors.Is(err, extract.ErrExists) {
		return hint(err, "--allow-existing-dirs enters directories that exist, --overwrite replaces files, --in-place makes the target what the archive is")
	}
	return err
}
