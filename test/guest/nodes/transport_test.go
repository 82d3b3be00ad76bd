//go:build linux

package nodes

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/sg"
)

const block = 256 << 10

func do(t *testing.T, tr scsi.Transport, dir scsi.Direction, data []byte, cdb ...byte) (int, error) {
	t.Helper()
	return tr.Do(scsi.Command{CDB: cdb, Dir: dir, Data: data, Timeout: time.Minute})
}

func mustDo(t *testing.T, tr scsi.Transport, dir scsi.Direction, data []byte, cdb ...byte) {
	t.Helper()
	if n, err := do(t, tr, dir, data, cdb...); err != nil || n != len(data) {
		t.Fatalf("%x moved %d of %d bytes: %v", cdb, n, len(data), err)
	}
}

func wantSense(t *testing.T, err error, k scsi.Key, code uint16) *scsi.Sense {
	t.Helper()
	s, ok := errors.AsType[*scsi.Sense](err)
	if !ok || !s.Says(k, code) {
		t.Fatalf("err = %v, want sense %x/%04x", err, k, code)
	}
	return s
}

func TestADriveIsFoundAndUsedByItsNode(t *testing.T) {
	_, nodes := attach(t, newDrive(t, "DRV0000001"))
	n := nodes[0]
	if n.Type != scsi.TypeTape || n.Vendor != "IBM" || n.Serial != "DRV0000001" || !slices.Contains(n.Kernel, "/dev/nst0") {
		t.Fatalf("found %+v", n)
	}
	d := open(t, n.Generic)
	id, err := scsi.Identify(d)
	if err != nil || id.Type != scsi.TypeTape || id.Product != n.Product {
		t.Fatalf("it is %+v: %v", id, err)
	}
	if serial, err := scsi.SerialNumber(d); serial != "DRV0000001" || err != nil {
		t.Fatalf("its serial number is %q: %v", serial, err)
	}
	if m, err := scsi.ReadMode(d, scsi.ModePage{Page: 0x0f}); err != nil || len(m.Blocks) != 8 || m.Short {
		t.Fatalf("its mode is %+v: %v", m, err)
	}
	wantSense(t, second(do(t, d, scsi.None, nil, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0)), scsi.IllegalRequest, 0x2000)
}

func second(_ int, err error) error { return err }

func TestBlocksGoToANodeAndBack(t *testing.T) {
	_, nodes := attach(t, newDrive(t, "DRV0000002"))
	d := open(t, nodes[0].Generic)
	page, err := pagebuf.New(block)
	if err != nil {
		t.Fatal(err)
	}
	defer page.Free()
	rng := rand.NewChaCha8([32]byte{1})
	heap := make([]byte, block)
	_, _ = rng.Read(heap)
	_, _ = rng.Read(page.Bytes())
	short := heap[1000:1999] // neither its begin nor its end is that of a page
	for _, b := range [][]byte{heap, page.Bytes(), short} {
		mustDo(t, d, scsi.Out, b, 0x0a, 0, byte(len(b)>>16), byte(len(b)>>8), byte(len(b)), 0)
	}
	mustDo(t, d, scsi.None, nil, 0x10, 0, 0, 0, 1, 0)
	mustDo(t, d, scsi.None, nil, 0x01, 0, 0, 0, 0, 0)
	got, err := pagebuf.New(block)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Free()
	read := []byte{0x08, 2, 4, 0, 0, 0}
	for i, want := range [][]byte{heap, page.Bytes(), short} {
		n, err := do(t, d, scsi.In, got.Bytes(), read...)
		if err != nil || !bytes.Equal(got.Bytes()[:n], want) {
			t.Fatalf("block %d came back with %d bytes: %v", i, n, err)
		}
	}
	_, err = do(t, d, scsi.In, got.Bytes(), read...)
	if s := wantSense(t, err, scsi.NoSense, 0x0001); !s.Filemark || s.Info != block {
		t.Fatalf("at the filemark it says %+v", s)
	}
	wantSense(t, second(do(t, d, scsi.In, got.Bytes(), read...)), scsi.BlankCheck, 0x0005)
}

func TestTooMuchDataIsRefusedBeforeItIsSent(t *testing.T) {
	w := watch(newDrive(t, "DRV0000004"))
	_, nodes := attach(t, w)
	d := open(t, nodes[0].Generic)
	_, err := do(t, d, scsi.Out, make([]byte, scsi.MaxData), 0x0a, 0, 0xff, 0xff, 0xff, 0)
	if err == nil || w.seen(scsi.Write6) != 0 {
		t.Fatalf("err = %v, and %d commands were sent", err, w.seen(scsi.Write6))
	}
	t.Log(err)
}

func TestACommandThatTakesTooLongIsATimeout(t *testing.T) {
	w := watch(newDrive(t, "DRV0000005"))
	_, nodes := attach(t, w)
	d := open(t, nodes[0].Generic)
	w.hold(scsi.Rewind, func() { time.Sleep(3 * time.Second) }) // the kernel counts in seconds, and waits for the end
	_, err := d.Do(scsi.Command{CDB: []byte{1, 0, 0, 0, 0, 0}, Timeout: 500 * time.Millisecond})
	if e, ok := errors.AsType[*scsi.TransportError](err); !ok || !e.Timeout {
		t.Fatalf("err = %v, want a time-out", err)
	}
	w.hold(scsi.Rewind, nil)
	calm(t, d) // and then it is there again
	if n := w.seen(scsi.Rewind); n != 1 {
		t.Fatalf("the unit saw %d commands", n)
	}
}

func TestADeviceThatIsTakenAwaySaysSo(t *testing.T) {
	w := watch(newDrive(t, "DRV0000006"))
	a, nodes := attach(t, w)
	d := open(t, nodes[0].Generic)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	err := scsi.CheckReady(d)
	if e, ok := errors.AsType[*scsi.TransportError](err); !ok || e.Timeout {
		t.Fatalf("err = %v, want a TransportError", err)
	}
	t.Log(err)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := sg.Open(nodes[0].Generic); err == nil {
		t.Fatal("it can still be opened")
	}
	attach(t, w) // the name is free again
}
