package drive_test

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/drive"
)

// fakeClock is a time that only passes by sleeping.
type fakeClock struct{ now time.Time }

func (c *fakeClock) Now() time.Time        { return c.now }
func (c *fakeClock) Sleep(d time.Duration) { c.now = c.now.Add(max(d, 0)) }

// The answers of mhvtl 1.8.0, which plays an IBM drive of generation 8 with a
// medium that is being loaded.
func TestAnswersAreThoseOfAnotherEmulator(t *testing.T) {
	b := newBench(t, func(c *drive.Config, _ *cartridge.Memory) {
		c.Clock, c.Times.Load = &fakeClock{}, time.Minute
	})
	for _, tc := range []struct{ name, cdb, answer string }{
		{"mode page 0f", "5a000f00000000100000", "001e8810000000085e000000000000000f0ec080ffffffffffffffff00000000"},
		{"log page 11", "4d005100000000100000", "110000080000030431370200"},
		{"encryption capabilities", "a220001000000000200000" + "00", "001000280100000000000000000000000000000001000014ba100020000c0020090000000000000000010014"},
		{"block limits", "050000000000", "008000000001"},
	} {
		cdb, err := hex.DecodeString(tc.cdb)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(b.ok(4096, cdb...)); got != tc.answer {
			t.Errorf("%s:\n got %s\nwant %s", tc.name, got, tc.answer)
		}
	}
}
