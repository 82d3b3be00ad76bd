package ntfs

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
)

// page is a restart page, as Windows writes it.
func page(number uint64, client, flags uint16) []byte {
	b := make([]byte, restartPage)
	copy(b, "RSTR")
	le.PutUint16(b[4:], 30)  // fixups
	le.PutUint16(b[6:], 9)   // their number, and that of them
	le.PutUint16(b[24:], 48) // the area
	le.PutUint16(b[30:], 7)
	for i := 512; i <= len(b); i += 512 {
		le.PutUint16(b[i-2:], 7)
	}
	le.PutUint64(b[48:], number)
	le.PutUint16(b[48+12:], client)
	le.PutUint16(b[48+14:], flags)
	return b
}

func TestAVolumeThatWasInUseSaysSo(t *testing.T) {
	clean := fsreadtest.Unpack(t, filepath.Join("testdata", "ntfs.img.gz"))
	f, err := Open(fsreadtest.Mem(clean))
	if err != nil {
		t.Fatal(err)
	}
	r, err := f.load(recLog)
	if err != nil {
		t.Fatal(err)
	}
	runs, err := f.runs(r.find(typeData, ""))
	if err != nil || runs[0].Length < 2*restartPage {
		t.Fatalf("%+v, %v", runs, err)
	}
	torn := page(9, 0, 0)
	torn[1022]++
	for name, tc := range map[string]struct {
		pages [2][]byte
		used  bool
	}{
		"emptied":                   {[2][]byte{bytes.Repeat([]byte{0xff}, restartPage), bytes.Repeat([]byte{0xff}, restartPage)}, false},
		"unmounted":                 {[2][]byte{page(5, 0, logIsClean), page(4, 0, 0)}, false},
		"nobody has used it":        {[2][]byte{page(5, noClient, 0), page(4, 0, 0)}, false},
		"in use":                    {[2][]byte{page(5, 0, 0), page(4, 0, logIsClean)}, true},
		"in use, by its second":     {[2][]byte{page(5, 0, logIsClean), page(6, 0, 0)}, true},
		"unmounted, second is torn": {[2][]byte{page(5, 0, logIsClean), torn}, false},
	} {
		b := bytes.Clone(clean)
		for i, p := range tc.pages {
			copy(b[runs[0].At+int64(i)*restartPage:], p)
		}
		f, err := Open(fsreadtest.Mem(b))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		n := f.About().Notices
		if tc.used != (len(n) == 1 && strings.Contains(n[0], "its journal is not applied")) || !tc.used && len(n) > 0 {
			t.Errorf("%s: %q", name, n)
		}
	}
}
