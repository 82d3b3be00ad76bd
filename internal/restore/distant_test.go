package restore_test

import (
	"encoding/binary"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
	"github.com/holdfast-backup/holdfast/internal/restore"
)

// sparseDisk has so many slots, of which each second one is zero.
func sparseDisk(slots int) []byte {
	b := make([]byte, slots*4096)
	for i := 0; i < slots; i += 2 {
		binary.LittleEndian.PutUint64(b[i*4096:], uint64(i+1))
	}
	return b
}

// More slots than are read of the index at once must make no gap in what is
// announced.
func TestADistantSnapshotHearsOfAllChunksLongBefore(t *testing.T) {
	b := sparseDisk(5000)
	s := saveSlots(t, b, 4096)
	d := &repotest.Distant{Snapshot: s, Chunks: 300, Bytes: 1 << 30}
	to := newTarget(make([]byte, len(b)), true)
	if _, err := restore.Image(t.Context(), d, disk, nil, to, restore.Options{Workers: 1}); err != nil {
		t.Fatal(err)
	}
	wantSame(t, to.b, b)
	read, surprise, most, waiting := d.Heard()
	if read != 2500 || surprise > 1 || waiting != 0 || most < 140 || most > 160 {
		t.Errorf("%d chunks were read, %d without notice; up to %d were announced, %d in vain; want 150 in 300 slots", read, surprise, most, waiting)
	}
}

func TestADistanceInBytesIsKept(t *testing.T) {
	b := sparseDisk(2000)
	s := saveSlots(t, b, 4096)
	d := &repotest.Distant{Snapshot: s, Chunks: 1000, Bytes: 100 * 4096}
	if _, err := restore.Image(t.Context(), d, disk, nil, newTarget(make([]byte, len(b)), true), restore.Options{Workers: 1}); err != nil {
		t.Fatal(err)
	}
	if _, surprise, most, _ := d.Heard(); surprise > 1 || most < 45 || most > 55 {
		t.Errorf("%d chunks without notice, up to %d were announced, want 50 in 100 slots", surprise, most)
	}
}

// What the target may have is not fetched for nothing.
func TestADistantSnapshotIsNotAskedForWhatTheTargetHas(t *testing.T) {
	b := sparseDisk(2000)
	s := saveSlots(t, b, 4096)
	d := &repotest.Distant{Snapshot: s, Chunks: 1000, Bytes: 1 << 30}
	if _, err := restore.Image(t.Context(), d, disk, nil, readable{newTarget(append([]byte(nil), b...), false)}, restore.Options{Workers: 1}); err != nil {
		t.Fatal(err)
	}
	if read, _, _, waiting := d.Heard(); read != 0 || waiting != 0 {
		t.Errorf("%d chunks were read and %d announced", read, waiting)
	}
}

func TestADistantSnapshotHearsOfWhatATargetOfOtherContentLacks(t *testing.T) {
	b := sparseDisk(2000)
	s := saveSlots(t, b, 4096)
	d := &repotest.Distant{Snapshot: s, Chunks: 1000, Bytes: 1 << 30}
	old := append([]byte(nil), b...)
	for i := 0; i < len(old)/2; i += 4096 {
		old[i] ^= 0x80
	}
	to := readable{newTarget(old, false)}
	if _, err := restore.Image(t.Context(), d, disk, nil, to, restore.Options{Workers: 1}); err != nil {
		t.Fatal(err)
	}
	wantSame(t, to.b, b)
	if read, surprise, _, waiting := d.Heard(); read != 500 || surprise > mostSurprise || waiting > 500 {
		t.Errorf("%d chunks were read, %d without notice, %d were announced in vain", read, surprise, waiting)
	}
}

// mostSurprise is how many chunks it takes to see that the target lacks them.
const mostSurprise = 10
