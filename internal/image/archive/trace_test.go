package archive_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/holdfast-backup/holdfast/internal/image/archive"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

const header = "holdfast-trace 1\narchive disk.img.fidx\nsize 34359738368\nchunk 4194304\n"

func TestTraceIsWrittenAsItsFormatSays(t *testing.T) {
	tr := &archive.Trace{Archive: disk, Size: 32 << 30, ChunkSize: 4 << 20, Slots: []int{0, 1, 2, 3, 4095, 20, 19, 18, 30, 31}}
	want := header + "0-3\n4095\n20\n19\n18\n30-31\n"
	if got := string(tr.Append(nil)); got != want {
		t.Fatalf("%s", got)
	}
	path := filepath.Join(t.TempDir(), "trace")
	for range 2 { // the second replaces the first
		if err := tr.Save(path); err != nil {
			t.Fatal(err)
		}
		got, err := archive.LoadTrace(path)
		if err != nil || !slices.Equal(got.Slots, tr.Slots) || got.Size != tr.Size || got.ChunkSize != tr.ChunkSize || got.Archive != disk {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	if list, err := os.ReadDir(filepath.Dir(path)); err != nil || len(list) != 1 {
		t.Errorf("%v, %v: something was left behind", list, err)
	}
	if err := tr.Save(filepath.Join(path, "x")); err == nil {
		t.Error("saved below a file")
	}
	if _, err := archive.LoadTrace(filepath.Dir(path)); !errors.Is(err, archive.ErrTrace) {
		t.Errorf("a directory: %v", err)
	}
}

func TestParseTraceRefuses(t *testing.T) {
	for _, tc := range []struct{ name, text, says string }{
		{"nothing", "", "begin"},
		{"another format", "holdfast-trace 2\n", "begin"},
		{"no archive", "holdfast-trace 1\nsize 1\n", "archive"},
		{"a small file", "holdfast-trace 1\narchive vm.conf.blob\n", "disk image"},
		{"a path", "holdfast-trace 1\narchive ../disk.img.fidx\n", "disk image"},
		{"no size", "holdfast-trace 1\narchive disk.img.fidx\n", "size"},
		{"size zero", strings.Replace(header, "34359738368", "0", 1), "zero"},
		{"negative chunk", strings.Replace(header, "4194304", "-4194304", 1), "number"},
		{"huge size", strings.Replace(header, "34359738368", "99999999999999999999", 1), "number"},
		{"sign", header + "+1\n", "number"},
		{"leading zero", header + "01\n", "number"},
		{"empty line", header + "\n", "number"},
		{"falling range", header + "3-2\n", "rise"},
		{"range of one", header + "3-3\n", "rise"},
		{"behind the end", header + "8192\n", "8192 of 8192"},
		{"twice", header + "1-4\n3\n", "twice"},
		{"no end of line", header + "1", "middle"},
		{"too many", "holdfast-trace 1\narchive disk.img.fidx\nsize 9000000000000000000\nchunk 1\n0-4611686018427387904\n", "more than"},
		{"too long", header + strings.Repeat("1\n", 3<<20), "bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := archive.ParseTrace([]byte(tc.text))
			if !errors.Is(err, archive.ErrTrace) || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("err = %v, want one that says %q", err, tc.says)
			}
		})
	}
}

func FuzzParseTrace(f *testing.F) {
	f.Add([]byte(header + "0-3\n4095\n20\n19\n"))
	f.Add([]byte(header))
	f.Fuzz(func(t *testing.T, b []byte) {
		tr, err := archive.ParseTrace(b)
		if err != nil {
			if !errors.Is(err, archive.ErrTrace) {
				t.Fatal(err)
			}
			return
		}
		if len(tr.Slots) > archive.MaxTrace {
			t.Fatalf("%d slots", len(tr.Slots))
		}
		text := tr.Append(nil)
		again, err := archive.ParseTrace(text)
		if err != nil || !slices.Equal(again.Slots, tr.Slots) || !bytes.Equal(again.Append(nil), text) {
			t.Fatalf("%q does not survive: %v", b, err)
		}
	})
}

func TestTraceOfASessionIsFetchedInItsOrderNextTime(t *testing.T) {
	b := content(50 * chunk) // 3 and 4 of each 5 slots are zero
	_, s := save(t, b, nil)
	rec := new(archive.Recorder)
	img := open(t, s, nil, archive.Options{Trace: rec})
	scattered(t, img, 20, 7, 7, 3, 41, 20, 12, 0)
	tr := rec.Trace()
	if want := []int{20, 7, 41, 12, 0}; !slices.Equal(tr.Slots, want) {
		t.Fatalf("noted %v, want %v", tr.Slots, want)
	}
	img.Close()
	if _, err := archive.Open(t.Context(), s, disk, nil, archive.Options{Trace: rec}); err == nil {
		t.Error("a recorder was used twice")
	}

	synctest.Test(t, func(t *testing.T) {
		m, s := save(t, b, nil)
		rec := new(archive.Recorder)
		cache := sized(4)
		img := open(t, s, nil, archive.Options{Cache: cache, Trace: rec})
		scattered(t, img, 30) // stays
		if err := img.Prefetch(t.Context(), tr); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if st := img.Stats(); st.Ahead != 3 || cache.Stats().Used != 4*slotSize {
			t.Errorf("%+v, %+v: want what fits beside what was read", st, cache.Stats())
		}
		if got := rec.Trace().Slots; !slices.Equal(got, []int{30}) {
			t.Errorf("%v is noted", got)
		}
		m.Reset()
		scattered(t, img, 30, 20, 7, 41)
		if st := img.Stats(); m.Calls(repotest.OpRead) != 0 || st.AheadUsed != 3 {
			t.Errorf("%d fetches, %+v", m.Calls(repotest.OpRead), st)
		}
		for _, spoil := range []func(*archive.Trace){
			func(t *archive.Trace) { t.Archive = "other.img.fidx" },
			func(t *archive.Trace) { t.Size++ },
			func(t *archive.Trace) { t.ChunkSize *= 2 },
		} {
			other := *tr
			spoil(&other)
			if err := img.Prefetch(t.Context(), &other); !errors.Is(err, archive.ErrTrace) {
				t.Errorf("%v", err)
			}
		}
		img.Close()
		cache.Close()
		clean(t, m)
	})
}

func TestPrefetchOfDamageIsNoError(t *testing.T) {
	m, s := save(t, solid(10), nil)
	for _, raw := range m.Chunks {
		raw[len(raw)/2] ^= 1
	}
	img := open(t, s, nil, archive.Options{})
	tr := &archive.Trace{Archive: disk, Size: img.Size(), ChunkSize: chunk, Slots: []int{1, 2, 9, -1, 10, 1 << 30}}
	if err := img.Prefetch(t.Context(), tr); err != nil {
		t.Fatal(err)
	}
	img.WillNeed(0, 10*chunk)
	if _, err := img.ReadAt(make([]byte, 1), 2*chunk); err == nil || !strings.Contains(err.Error(), fmt.Sprint(2*chunk)) {
		t.Errorf("err = %v", err)
	}
	img.Close()
	clean(t, m)
}
