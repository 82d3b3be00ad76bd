package share_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/socket"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/share"
)

// dir is a short one: the paths of sockets are limited.
func newDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "vtl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := vtl.Create(dir, vtl.Default(8, 1, 2)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// serve serves a library until the function is called.
func serve(t *testing.T, dir string) (stop func()) {
	t.Helper()
	l, err := vtl.Open(dir, vtl.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := share.Listen(dir, l)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	end := make(chan error)
	go func() { end <- s.Serve(ctx, func(err error) { t.Log(err) }) }()
	return func() {
		cancel()
		if err := <-end; err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestAServedLibraryIsUsedAndRunByOthers(t *testing.T) {
	dir := newDir(t)
	stop := serve(t, dir)
	op, err := share.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []string{"A00001L8", "A00002L8", "A00003L8"} {
		if err := op.AddCartridge(vtl.Cartridge{Barcode: b, Capacity: 1 << 20}); err != nil {
			t.Fatal(err)
		}
	}
	if err := op.Export("A00001L8"); err != nil {
		t.Fatal(err)
	}
	if err := op.Import("A00003L8"); err != nil {
		t.Fatal(err)
	}
	if err := op.Delete("A00001L8"); err != nil {
		t.Fatal(err)
	}
	if err := op.Insert(0, "A00002L8"); err == nil || !strings.Contains(err.Error(), "changer") {
		t.Fatalf("a cartridge by hand: %v", err)
	}
	if err := op.Eject(0); err == nil {
		t.Fatal("a cartridge came out by hand")
	}
	list, err := op.Cartridges()
	if err != nil || len(list) != 2 || list[0].Place != "slot 2" || list[1].Place != "station 1" || list[0].Memory.Capacity != 1<<20 {
		t.Fatalf("it holds %+v: %v", list, err)
	}
	if err := op.Close(); err != nil {
		t.Fatal(err)
	}

	tr, err := socket.Dial(t.Context(), filepath.Join(dir, "changer"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []uint16{0x2900, 0x2800, 0x2801} { // switched on, the slots opened, and the station
		_, err = tr.Do(scsi.Command{CDB: make([]byte, 6), Timeout: time.Minute})
		if s, ok := scsi.AsSense(err); !ok || !s.Says(scsi.UnitAttention, want) {
			t.Fatalf("the changer says %v, want %04x", err, want)
		}
	}
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
	stop()

	// Now it is opened directly.
	op, err = share.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, direct := op.(*vtl.Library); !direct {
		t.Fatalf("it is opened as %T", op)
	}
	if list, err := op.Cartridges(); err != nil || len(list) != 2 {
		t.Fatalf("it holds %+v: %v", list, err)
	}
	if _, err := share.Open(dir); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Fatalf("a library that is open and not served: %v", err)
	}
	if err := op.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestASocketThatWasLeftOverIsReplaced(t *testing.T) {
	dir := newDir(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "drive0"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	serve(t, dir)()
	if err := os.WriteFile(filepath.Join(dir, "drive0"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	lib, err := vtl.Open(dir, vtl.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lib.Close() }()
	if _, err := share.Listen(dir, lib); err == nil {
		t.Fatal("a file was replaced by a socket")
	}
}

func TestAnOperatorThatTalksNonsenseIsNotAnswered(t *testing.T) {
	dir := newDir(t)
	defer serve(t, dir)()
	for _, line := range []string{"nonsense\n", strings.Repeat("x", 100<<10)} {
		conn, err := net.Dial("unix", filepath.Join(dir, "operator"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte(line)) // the other end may be gone before all is sent
		if n, err := conn.Read(make([]byte, 100)); err == nil {
			t.Errorf("%.20q was answered with %d bytes", line, n)
		}
		_ = conn.Close()
	}
	conn, err := net.Dial("unix", filepath.Join(dir, "operator"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte(`{"do":"burn"}` + "\n")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1000)
	n, err := conn.Read(b)
	if err != nil || !strings.Contains(string(b[:n]), "burn") {
		t.Fatalf("the answer is %q: %v", b[:n], err)
	}
}
