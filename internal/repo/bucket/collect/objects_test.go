package collect

import (
	"context"
	"sync"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

// A network may double a request: the second answer is that the object is there.
func TestADoubledRequestIsNoFailure(t *testing.T) {
	w := newWorld(t, nil)
	w.opt.Cutoff = 0
	w.sparse()
	d := &doubling{Store: w.store, kinds: map[byte]bool{}}
	if _, err := Run(t.Context(), d, w.log, w.opt); err != nil {
		t.Fatal(err)
	}
	w.check()
	for _, kind := range []byte("pimr") {
		if !d.kinds[kind] {
			t.Errorf("no object %c was stored", kind)
		}
	}
}

// doubling makes all requests to store something twice.
type doubling struct {
	objstore.Store
	mu    sync.Mutex
	kinds map[byte]bool
}

func (d *doubling) Put(ctx context.Context, key string, body objstore.Body, o objstore.PutOptions) (objstore.Info, error) {
	if _, err := d.Store.Put(ctx, key, body, o); err != nil {
		return objstore.Info{}, err
	}
	d.mu.Lock()
	d.kinds[key[len(catalog.SessionDir(1))]] = true
	d.mu.Unlock()
	return d.Store.Put(ctx, key, body, o)
}
