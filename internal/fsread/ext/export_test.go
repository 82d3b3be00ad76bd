package ext

import "github.com/holdfast-backup/holdfast/internal/fsread"

// LookupIndexed finds a name by the index alone.
func LookupIndexed(f *FS, dir fsread.ID, name string) (fsread.Entry, bool, error) {
	n, err := f.directory(dir)
	if err != nil {
		return fsread.Entry{}, false, err
	}
	if !f.indexed(n) {
		return fsread.Entry{}, false, nil
	}
	return f.lookupIndexed(n, name)
}
