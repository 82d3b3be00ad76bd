package btrfs

import (
	"crypto/subtle"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// device is a device of a file system, with its superblock.
type device struct {
	img        image.Image
	super      []byte
	number     uint64
	uuid       [16]byte
	generation uint64
}

// Device is what an image says of itself.
type Device struct {
	UUID string // of the file system
	Of   uint64 // devices that this has
}

// Identify reads the superblock of a device, and gives fsread.ErrOther for an image
// that has none.
func Identify(img image.Image) (Device, error) {
	d, err := readDevice(img)
	if err != nil {
		return Device{}, err
	}
	return Device{UUID: uuid(d.super[32:48]), Of: le.Uint64(d.super[136:])}, nil
}

func uuid(u []byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

func readDevice(img image.Image) (*device, error) {
	if img.Size() < superAt+superSize {
		return nil, fsread.ErrOther
	}
	b := make([]byte, superSize)
	if err := fsread.ReadFull(img, layer, b, superAt); err != nil {
		return nil, err
	}
	if string(b[64:72]) != "_BHRfS_M" {
		return nil, fsread.ErrOther
	}
	sum := sums(le.Uint16(b[196:]))
	if sum == nil {
		return nil, fsread.Unsupported(layer, "checksums of kind %d", le.Uint16(b[196:]))
	}
	if !sound(sum, b) {
		return nil, fsread.Corrupt(layer, "the checksum of the superblock is wrong")
	}
	if at := le.Uint64(b[48:]); at != superAt {
		return nil, fsread.Corrupt(layer, "the superblock says that it lies at %d", at)
	}
	return &device{img: img, super: b, number: le.Uint64(b[201:]), uuid: [16]byte(b[201+66:]), generation: le.Uint64(b[72:])}, nil
}

// Open opens a btrfs of one device, or what can be read of one of several, and gives
// fsread.ErrOther for an image that holds something else.
func Open(img image.Image) (*FS, error) { return OpenAll([]image.Image{img}) }

// OpenAll opens a btrfs that lies on several devices; the first one says which. Others of it
// are taken, in any order. One that the rest has left behind counts as missing: the superblocks of
// a running system are not written at one time, but one after the other.
func OpenAll(images []image.Image) (*FS, error) {
	first, err := readDevice(images[0])
	if err != nil {
		return nil, err
	}
	all, newest := []*device{first}, first
	for _, img := range images[1:] {
		d, err := readDevice(img)
		if err != nil || [16]byte(d.super[32:]) != [16]byte(first.super[32:]) {
			continue // its superblock makes it none of them
		}
		all = append(all, d)
		if d.generation > newest.generation {
			newest = d
		}
	}
	f := &FS{nodes: map[uint64]*node{}, roots: map[uint64]root{}}
	behind := 0
	for _, d := range all {
		switch {
		case d.generation+1 < newest.generation:
			behind++
		case f.deviceOf(d.number, d.uuid) != nil:
			return nil, fsread.Unsupported(layer, "a file system of which two images are device %d,", d.number)
		default:
			f.devices = append(f.devices, d)
			f.uneven = f.uneven || d.generation != newest.generation
		}
	}
	if err := f.super(newest.super); err != nil {
		return nil, err
	}
	if n := le.Uint64(newest.super[136:]); n != uint64(len(f.devices)) {
		f.about.Notices = append(f.about.Notices, fmt.Sprintf("has %d devices, of which %d are there", n, len(f.devices)))
	}
	if behind > 0 {
		f.about.Notices = append(f.about.Notices, fmt.Sprintf("has left %d of its devices behind", behind))
	}
	if err := f.readChunks(newest.super); err != nil {
		return nil, err
	}
	if err := f.applyLog(newest.super); err != nil {
		return nil, err
	}
	return f, nil
}

// deviceOf finds a device; nil: it is missing.
func (f *FS) deviceOf(number uint64, uuid [16]byte) *device {
	for _, d := range f.devices {
		if d.number == number && d.uuid == uuid {
			return d
		}
	}
	return nil
}

// read reads bytes in one of the ways there are.
func (w way) read(p []byte) error {
	if err := fsread.ReadFull(w[0].dev.img, layer, p, w[0].at); err != nil || len(w) == 1 {
		return err
	}
	other := make([]byte, len(p))
	for _, s := range w[1:] {
		if err := fsread.ReadFull(s.dev.img, layer, other, s.at); err != nil {
			return err
		}
		subtle.XORBytes(p, p, other)
	}
	return nil
}
