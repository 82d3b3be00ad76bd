package nbdclient

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd/nbdserver"
)

// memory is a disk for Holdfast's own server. Whole zero pages are Zero.
type memory struct {
	mu   sync.Mutex
	data []byte
}

const page = 4096

func (m *memory) Size() int64 { return int64(len(m.data)) }

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := copy(p, m.data[off:]); n < len(p) {
		return n, io.EOF
	}
	return len(p), nil
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return copy(m.data[off:], p), nil
}

func (m *memory) Zero(off, n int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.data[off:][:n])
	return nil
}

func (m *memory) Discard(int64, int64) error { return nil }

func (m *memory) Flush() error { return nil }

func (m *memory) ExtentAt(off int64) (image.Extent, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := image.Extent{Offset: off, Length: min(page-off%page, int64(len(m.data))-off)}
	if len(bytes.Trim(m.data[off:e.End()], "\x00")) == 0 {
		e.Kind = image.Zero
	}
	return e, nil
}

// odd is a bitmap in which every other MiB is dirty.
type odd struct{}

func (odd) Name() string { return nbd.QEMUDirtyBitmap + "odd" }

func (odd) At(off int64) (int64, uint32, error) {
	return 1<<20 - off%(1<<20), uint32(off >> 20 & 1), nil
}

func TestOwnServerSpeaksExtendedHeaders(t *testing.T) {
	disk := &memory{data: make([]byte, 6<<20+512)}
	_, _ = rand.NewChaCha8([32]byte{3}).Read(disk.data[1<<20 : 4<<20])
	s := nbdserver.New(nbdserver.Options{Exports: []*nbdserver.Export{{Name: "disk", Image: disk, Contexts: []nbdserver.Context{odd{}}}}})
	ctx, cancel := context.WithCancel(context.Background())
	var served sync.WaitGroup
	defer served.Wait()
	defer cancel()
	dial := func(context.Context, string, string) (net.Conn, error) {
		a, b := net.Pipe()
		served.Go(func() { _ = s.ServeConn(ctx, b) })
		return a, nil
	}
	u := nbd.URI{Host: "own", Port: 1, Export: "disk"}
	im, err := Open(t.Context(), u, Options{Dial: dial, Contexts: []string{"qemu:dirty-bitmap:"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = im.Close() }()
	if im.c.base.mode != nbd.Extended {
		t.Fatalf("mode %s", im.c.base.mode)
	}
	got := make([]byte, im.Size())
	if _, err := im.ReadAt(got, 0); err != nil || !bytes.Equal(got, disk.data) {
		t.Fatalf("%v, equal %v", err, bytes.Equal(got, disk.data))
	}
	changed, err := im.ChangedBy("qemu:dirty-bitmap:odd")
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("0+1024 %s\n1024+1024 %s\n2048+1024 %[1]s\n3072+1024 %[2]s\n4096+1024 %[1]s\n5120+1024 %[3]s\n6144+0 %[1]s\n", image.Unchanged, image.Data, image.Zero)
	if s := extentsOf(t, changed); s != want {
		t.Errorf("extents\n%swant\n%s", s, want)
	}

	to, err := OpenTarget(t.Context(), u, Options{Dial: dial, Size: 5 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = to.Close() }()
	if _, err := to.WriteAt(bytes.Repeat([]byte("new"), 1<<20), 77); err != nil {
		t.Fatal(err)
	}
	if err := to.Zero(100, 1000); err != nil {
		t.Fatal(err)
	}
	if err := to.Finish(); err != nil {
		t.Fatal(err)
	}
	if b := disk.data[77:]; !bytes.HasPrefix(b, []byte("newnew")) || !bytes.Equal(b[23:1023], make([]byte, 1000)) || b[1023] == 0 {
		t.Errorf("the disk holds %q", b[:1100])
	}
}
