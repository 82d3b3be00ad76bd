package detect

import (
	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/btrfs"
	"github.com/holdfast-backup/holdfast/internal/fsread/ext"
	"github.com/holdfast-backup/holdfast/internal/fsread/fat"
	"github.com/holdfast-backup/holdfast/internal/fsread/iso9660"
	"github.com/holdfast-backup/holdfast/internal/fsread/ntfs"
	"github.com/holdfast-backup/holdfast/internal/fsread/squashfs"
	"github.com/holdfast-backup/holdfast/internal/fsread/xfs"
	"github.com/holdfast-backup/holdfast/internal/image"
)

type opener func(image.Image) (fsread.FS, error)

// openers by what signatures call it.
var openers = map[string]opener{
	"btrfs":    as(btrfs.Open),
	"ext4":     as(ext.Open),
	"exfat":    as(fat.OpenEx),
	"iso9660":  as(iso9660.Open),
	"ntfs":     as(ntfs.Open),
	"squashfs": as(squashfs.Open),
	"vfat":     as(fat.Open),
	"xfs":      as(xfs.Open),
}

// as makes an opener of one that gives its own type.
func as[F fsread.FS](open func(image.Image) (F, error)) opener {
	return func(img image.Image) (fsread.FS, error) {
		f, err := open(img)
		if err != nil {
			return nil, err
		}
		return f, nil
	}
}

// Open opens the file system that Look found in img. One that is known and not
// read is an [*fsread.UnsupportedError].
func (f Finding) Open(img image.Image) (fsread.FS, error) {
	if f.Class != FileSystem {
		return nil, fsread.ErrOther
	}
	open, ok := openers[f.Type]
	if !ok {
		return nil, fsread.Unsupported(f.Type, "this file system")
	}
	return open(img)
}
