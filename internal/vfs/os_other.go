//go:build !linux

package vfs

// OS is the system's file system below one directory.
type OS struct{ *portable }

var _ FS = (*OS)(nil)

// OpenOS opens the file system below dir, which must be an existing directory.
func OpenOS(dir string) (*OS, error) {
	p, err := openPortable(dir)
	if err != nil {
		return nil, err
	}
	return &OS{p}, nil
}

// KeepOwner has no effect here: new files always stay with who makes them.
func (o *OS) KeepOwner() {}
