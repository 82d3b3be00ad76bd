package direct

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/filerestore"
	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// distantFS takes a second for each Stat.
type distantFS struct {
	fsread.FS
	mu   sync.Mutex
	seen int
}

func (f *distantFS) Stat(id fsread.ID) (fsread.Stat, error) {
	time.Sleep(time.Second)
	f.mu.Lock()
	f.seen++
	f.mu.Unlock()
	if id.Number == 7 {
		return fsread.Stat{}, errors.New("unreadable")
	}
	return fsread.Stat{ID: id, Kind: fsread.Regular, Size: int64(id.Number)}, nil
}

func TestFilesOfADirectoryAreLookedAtSideBySideAndListedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, n := range []int{0, 1, 15, 100} {
			var names []fsread.Entry
			for i := range n {
				names = append(names, fsread.Entry{Name: fmt.Sprint(i), ID: fsread.ID{Number: uint64(i)}, Kind: fsread.Directory})
			}
			d, f := &Driver{}, &distantFS{}
			begin := time.Now()
			all, err := d.stats(t.Context(), f, filerestore.Path{Archive: "disk.img.fidx"}, names)
			if err != nil || len(all) != n {
				t.Fatalf("%d of %d entries, %v", len(all), n, err)
			}
			if took, most := time.Since(begin), time.Duration(n/statsAtOnce+1)*time.Second; took > most {
				t.Errorf("%d files took %v, want at most %v", n, took, most)
			}
			for i, e := range all {
				switch {
				case e.Path.Names[0] != names[i].Name:
					t.Errorf("entry %d is %s", i, e.Path)
				case i == 7 && e.Type != filerestore.Dir:
					t.Errorf("the one that cannot be read is %v, its name says a directory", e.Type)
				case i != 7 && *e.Size != int64(i):
					t.Errorf("entry %d has %d bytes", i, *e.Size)
				}
			}
		}
	})
}

func TestNoMoreFilesAreLookedAtWhenTheContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("enough")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 1500*time.Millisecond, why)
		defer cancel()
		f := &distantFS{}
		if _, err := (&Driver{}).stats(ctx, f, filerestore.Path{Archive: "disk.img.fidx"}, make([]fsread.Entry, 1000)); !errors.Is(err, why) {
			t.Errorf("%v", err)
		}
		if f.seen > 2*statsAtOnce {
			t.Errorf("%d files were looked at", f.seen)
		}
	})
}
