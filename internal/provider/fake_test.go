package provider_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/tree"
)

// fake is a storage in memory. What it does not implement panics.
type fake struct {
	provider.Storage
	mu    sync.Mutex
	disks map[string]map[string][]byte // by archive and device
	logs  map[string]string
	hold  chan struct{} // when set, BackupVM takes a value from it, and then waits for ctx
	fail  error         // of BackupVM, behind Seal
}

func newFake() *fake { return &fake{disks: map[string]map[string][]byte{}, logs: map[string]string{}} }

func (f *fake) Name() string                  { return "memory" }
func (f *fake) Prepare(context.Context) error { return nil }

func (f *fake) Archive(g provider.Guest, start time.Time) provider.Archive {
	return provider.Archive{Name: fmt.Sprintf("%d/%s-%d", g.ID, g.Kind, start.Unix()), Guest: g, Start: start.Unix()}
}

func (f *fake) Parse(name string) (a provider.Archive, err error) {
	var kind string
	if _, err := fmt.Sscanf(name, "%d/%4s-%d", &a.Guest.ID, &kind, &a.Start); err != nil {
		if _, err := fmt.Sscanf(name, "%d/%3s-%d", &a.Guest.ID, &kind, &a.Start); err != nil {
			return a, fmt.Errorf("%w: %q", names.ErrName, name)
		}
	}
	a.Name, a.Guest.Kind = name, provider.Kind(kind)
	return a, nil
}

func (f *fake) List(_ context.Context, g *provider.Guest) (list []provider.Entry, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name := range f.disks {
		a, err := f.Parse(name)
		if err != nil {
			return nil, err
		}
		if g == nil || a.Guest == *g {
			list = append(list, provider.Entry{Archive: a, Size: 1})
		}
	}
	return list, nil
}

func (f *fake) Entry(_ context.Context, a provider.Archive) (provider.Entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.disks[a.Name]; !ok {
		return provider.Entry{}, fmt.Errorf("%s: %w", a.Name, repo.ErrNotFound)
	}
	return provider.Entry{Archive: a, Size: 1}, nil
}

func (f *fake) BackupVM(ctx context.Context, a provider.Archive, vm provider.VM) (r provider.Result, err error) {
	if f.hold != nil {
		<-f.hold
		<-ctx.Done()
		return r, context.Cause(ctx)
	}
	disks := map[string][]byte{}
	for _, v := range vm.Volumes {
		b, err := io.ReadAll(io.NewSectionReader(v.Image, 0, v.Image.Size()))
		if err != nil {
			return r, err
		}
		disks[v.Device] = b
		r.Read += int64(len(b))
	}
	if err := vm.Seal(ctx); err != nil {
		return r, err
	}
	if f.fail != nil {
		return r, f.fail
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.disks[a.Name] = disks
	return r, nil
}

func (f *fake) BackupContainer(ctx context.Context, a provider.Archive, ct provider.Container) (r provider.Result, err error) {
	var meta bytes.Buffer
	if _, err := ct.Walk(ctx, tree.Output{Meta: &meta}, nil); err != nil {
		return r, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.disks[a.Name] = map[string][]byte{"root": meta.Bytes()}
	return provider.Result{Size: int64(meta.Len())}, nil
}

func (f *fake) PutLog(_ context.Context, a provider.Archive, log []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.logs[a.Name] = string(log)
	return nil
}

func TestArchivesOfTheFakeParse(t *testing.T) {
	f := newFake()
	for _, kind := range []provider.Kind{provider.QEMU, provider.LXC} {
		want := f.Archive(provider.Guest{Kind: kind, ID: 7}, time.Unix(5, 0))
		if got, err := f.Parse(want.Name); err != nil || got != want {
			t.Errorf("%+v, %v", got, err)
		}
	}
}
