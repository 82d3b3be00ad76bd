//go:build linux

package nodes

import (
	"bytes"
	"errors"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/device"
	"github.com/holdfast-backup/holdfast/internal/tape/tapetest"
)

// A medium is brought into a drive, written, taken out, and read in the other
// drive: all by the serial numbers of the devices.
func TestALibraryIsUsedByItsNodes(t *testing.T) {
	attach(t, newLibrary(t)...)
	o := &device.Opener{Locks: t.TempDir()}
	ch, err := o.SMC(t.Context(), "serial:HFCHANGER1")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := ch.Close(); err != nil {
			t.Error(err)
		}
	}()
	s, err := ch.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Drives) != 2 || len(s.Slots) != 6 || s.Slots[1].Label != "HLD002L8" || s.Drives[1].Serial != "HFDRIVE002" {
		t.Fatalf("the changer says %+v", s)
	}
	block := tapetest.Block(1)
	for n, serial := range []string{"serial:HFDRIVE001", "serial:HFDRIVE002"} {
		if err := ch.Load(t.Context(), 2, n); err != nil {
			t.Fatal(err)
		}
		d, err := o.LTO(t.Context(), serial, true)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			_, err = d.WriteBlock(block)
			if err == nil {
				_, err = d.WriteFilemark()
			}
		} else {
			got := make([]byte, tape.BlockSize)
			if _, err = d.ReadBlock(got); err == nil && !bytes.Equal(got, block) {
				err = errors.New("another block came back")
			}
		}
		if err := errors.Join(err, d.Eject(t.Context()), d.Close(), ch.Unload(t.Context(), n, 2)); err != nil {
			t.Fatalf("%s: %v", serial, err)
		}
	}
}
