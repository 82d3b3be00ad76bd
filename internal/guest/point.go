package guest

import (
	"context"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/image"
)

// Backend is a way to one guest.
type Backend interface {
	// Begin takes a consistent point. It first removes what a run that died left
	// behind. After an error nothing of the point is left in the guest.
	Begin(ctx context.Context, req Request) (Point, error)
}

// Request says which bitmaps a point may use.
type Request struct {
	// New is the name for the bitmaps that begin with the point; "": none begin.
	New Bitmap
	// Base says for each disk, by Disk.Name, which bitmap counts from the
	// snapshot that digests are taken from. A disk that is not in it is read in
	// whole, and so is one with another size than it had.
	Base map[string]Base
	// Keep says for each disk which bitmap counts from the previous snapshot,
	// whether it may be used this time or not: if the snapshot is not finished
	// it is still good.
	Keep map[string]Bitmap
	// Owner tells the bitmaps of this repository and group from others. Those
	// that have it and are neither New nor in Base or Keep are leftovers.
	Owner Owner
	// ChunkSize is the unit that is read where anything in it is dirty, in
	// bytes.
	ChunkSize int
}

// Base is what a disk was when the previous snapshot was made.
type Base struct {
	Bitmap Bitmap
	Size   int64 // bytes
}

// Point is a guest whose disks stand still for the reader. Its methods are not
// safe for concurrent use; the images of its disks are.
type Point interface {
	Disks() []Disk
	Configs() []Config
	// Intact reports whether everything that was read until now was of the
	// point. It is asked after the last read and before the snapshot is
	// finished.
	Intact(ctx context.Context) error
	// Release ends the point and removes all that it put into the guest but
	// bitmaps: if the snapshot is finished, New stays and Base goes, otherwise
	// Base stays as if the point had never been and New goes. It is called once,
	// with a context that does not end when the backup is interrupted. The
	// images must not be used any more.
	Release(ctx context.Context, finished bool) error
}

// Disk is one disk of a point.
type Disk struct {
	Name  string // names the archive: NAME.img.fidx
	Image image.Image
	Mode  Mode
	// Bitmap begins with the point; "" exactly if Mode is None.
	Bitmap Bitmap
	// Why says for people why not less was read; may be empty.
	Why string
}

// Config is a small file beside the disks.
type Config struct {
	Name string // names the archive: NAME.blob, such as "machine.json"
	Data []byte
}

// Mode says how a dirty bitmap was used; see the package comment.
type Mode int

// The modes. Only with Reuse may an image have Unchanged extents.
const (
	None Mode = iota
	New
	Reuse
	MissingRecreated
)

var modeNames = [...]string{"none", "new", "reuse", "missing-recreated"}

func (m Mode) String() string {
	if m < 0 || int(m) >= len(modeNames) {
		return fmt.Sprintf("guest.Mode(%d)", int(m))
	}
	return modeNames[m]
}

// ParseMode is the inverse of String.
func ParseMode(s string) (Mode, error) {
	for m, name := range modeNames {
		if s == name {
			return Mode(m), nil
		}
	}
	return 0, fmt.Errorf("unknown bitmap mode %.40q: want none, new, reuse or missing-recreated", s)
}

// MarshalText gives JSON the same words.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }
