package xfs

import "github.com/holdfast-backup/holdfast/internal/fsread"

// maxOverlay bounds what the log may have changed, bytes.
const maxOverlay = 256 << 20

// overlay is sectors of 512 bytes as the log has them.
type overlay map[int64]*[sector]byte

// patch puts over p, which was read at off, what is newer, and reports whether
// there is any.
func (o overlay) patch(p []byte, off int64) (newer bool) {
	if len(o) == 0 {
		return false
	}
	for n := off / sector; n*sector < off+int64(len(p)); n++ {
		if s := o[n]; s != nil {
			from := max(0, off-n*sector)
			copy(p[max(0, n*sector-off):], s[from:])
			newer = true
		}
	}
	return newer
}

// write changes the view at off.
func (f *FS) write(p []byte, off int64) error {
	if off < 0 || off+int64(len(p)) > f.about.Size {
		return fsread.Corrupt(layer, "the log writes to %d bytes at %d of %d", len(p), off, f.about.Size)
	}
	for len(p) > 0 {
		n := off / sector
		s := f.newer[n]
		if s == nil {
			if len(f.newer) >= maxOverlay/sector {
				return fsread.Unsupported(layer, "a log with more than %d bytes of changes", maxOverlay)
			}
			s = new([sector]byte)
			if err := fsread.ReadFull(f.img, layer, s[:], n*sector); err != nil {
				return err
			}
			f.newer[n] = s
		}
		done := copy(s[off-n*sector:], p)
		p, off = p[done:], off+int64(done)
	}
	return nil
}
