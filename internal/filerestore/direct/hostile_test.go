package direct

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/filerestore"
	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
)

var errEnough = errors.New("enough was seen")

// explore goes through all that a driver lists, and reads some of it, until its budget is
// used up.
func explore(t *testing.T, d *Driver, p filerestore.Path, budget *int) {
	if *budget--; *budget < 0 || len(p.Names) > 40 {
		return
	}
	all, err := d.List(t.Context(), p)
	if err != nil {
		return
	}
	for _, e := range all {
		if e.Type == filerestore.Dir || e.Type == filerestore.Virtual {
			if len(e.Path.Names) <= len(p.Names) {
				t.Fatalf("%s lists itself", p)
			}
			explore(t, d, e.Path, budget)
		} else if *budget > 0 {
			fetch(t, d, e.Path)
		}
	}
}

func fetch(t *testing.T, d *Driver, p filerestore.Path) {
	left := 20
	part, err := d.Open(t.Context(), p, filerestore.OpenOptions{Problem: func(string, error) error {
		if left--; left < 0 {
			return errEnough
		}
		return nil
	}})
	if err != nil {
		return
	}
	defer part.Close()
	for range 20 {
		if _, err := part.Next(); err != nil {
			return
		}
		_, _ = io.CopyN(io.Discard, part, 64<<10)
	}
}

// Disks of strangers may hold anything: looking at them ends, in bounded memory, and what
// lies in what does not come back to itself.
func FuzzDisks(f *testing.F) {
	for i := range uint64(8) {
		f.Add(i, uint16(1<<i)-1)
	}
	two := arrayOf("raid", partitioned(f, fileSystem(f, "array")))
	clean := [][]byte{partitioned(f, fileSystem(f, "first"), volumeGroup("group", partitioned(f, fileSystem(f, "inner")))), two[0], two[1]}
	f.Fuzz(func(t *testing.T, seed uint64, flips uint16) {
		r := rand.New(rand.NewPCG(seed, 0))
		var all []Disk
		for i, b := range clean {
			b = bytes.Clone(b)
			for range flips % 256 {
				at := r.IntN(len(b))
				if r.IntN(2) == 0 { // where what makes volumes lies
					at = r.IntN(8192)
				}
				b[at] = byte(r.Uint32() >> (8 * r.IntN(4)))
			}
			all = append(all, Disk{Archive: string(rune('a'+i)) + ".img.fidx", Image: fsreadtest.Mem(b)})
		}
		d := New(all, Options{Passphrase: []byte(passphrase)})
		budget := 200
		for _, k := range all {
			explore(t, d, filerestore.Path{Archive: k.Archive}, &budget)
		}
		if flips == 0 && budget > 180 {
			t.Errorf("of what is whole only %d levels are seen", 200-budget)
		}
	})
}
