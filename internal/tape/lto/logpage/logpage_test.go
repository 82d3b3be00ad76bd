package logpage_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/lto/logpage"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// activity is what mhvtl 1.8 answers for an LTO-8 drive with a medium.
const activity = "110000080000030431370200"

func TestActivityOfADrive(t *testing.T) {
	d, err := logpage.ParseActivity(unhex(t, activity+"ffffff"))
	if err != nil || d.String() != "loading" {
		t.Errorf("%v, %v", d, err)
	}
	if b, err := json.Marshal(map[string]logpage.Doing{"a": 0x0b, "b": 0x77}); err != nil || string(b) != `{"a":"calibrating","b":"activity-0x77"}` {
		t.Errorf("%s, %v", b, err)
	}
	if _, err := logpage.ParseActivity(unhex(t, "110000080000030430370200")); err == nil {
		t.Error("an invalid state counts")
	}
}

func TestAlertsOfBothPagesAreTheSame(t *testing.T) {
	want := tape.Alerts(1<<0 | 1<<3 | 1<<0x15)
	a, err := logpage.ParseAlerts(unhex(t, "1200000c 00000308 9000040000000000"), logpage.Alerts12)
	if err != nil || a != want {
		t.Errorf("page 12: %v, %v", a, err)
	}
	page := "2e000000"
	n := 0
	for i := 1; i <= 64; i++ {
		v := "00"
		if want.Has(i) {
			v = "01"
		}
		page += hex.EncodeToString([]byte{0, byte(i), 0, 1}) + v
		n += 5
	}
	b := unhex(t, page)
	b[2], b[3] = byte(n>>8), byte(n)
	if a, err := logpage.ParseAlerts(b, logpage.Alerts2E); err != nil || a != want {
		t.Errorf("page 2E: %v, %v", a, err)
	}
	for _, bad := range []string{"", "12000000", "11000000", "1200000c00000308", "1200000500000308aa"} {
		if _, err := logpage.ParseAlerts(unhex(t, bad), logpage.Alerts12); err == nil {
			t.Errorf("%q is a page", bad)
		}
	}
}

func TestStatisticsOfAVolume(t *testing.T) {
	page := unhex(t, "17000000 00000301 01  00010304 0000000c  00100308 0000000000000064  00170304 00000003  00160304 ffffffff"+
		"00400308 5345523132200000  00800301 01  00810301 00  01010304 00000640  01020304 00000c80  02000304 00000001 7fff0300")
	page[2], page[3] = byte((len(page)-4)>>8), byte(len(page)-4)
	s, err := logpage.ParseVolume(append(page, 0, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	want := logpage.Statistics{
		Mounts: 12, Written: 100_000_000, Used: 3_000_000, Capacity: 0xffffffff * logpage.MB, Serial: "SER12",
		WriteProtect: true, BeginningPasses: 1600, MiddlePasses: 3200,
	}
	if s != want || s.Wearout() != 0.2 || s.Passes() != 3200 {
		t.Errorf("got %+v", s)
	}
	if _, err := logpage.ParseVolume(unhex(t, "170000050000030100")); !errors.Is(err, logpage.ErrNotValid) {
		t.Error("a page that is not valid counts")
	}
}

func FuzzPages(f *testing.F) {
	f.Add(unhex(f, activity))
	f.Add(unhex(f, "1200000c000003089000040000000000"))
	f.Add(unhex(f, "170000050000030101"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, page := range []uint8{logpage.Alerts12, logpage.Alerts2E} {
			a, err := logpage.ParseAlerts(b, page)
			more, err2 := logpage.ParseAlerts(append(b, 1, 2, 3), page)
			if err == nil && (err2 != nil || a != more) {
				t.Errorf("what comes behind the page changes it: %v, %v", more, err2)
			}
		}
		_, _ = logpage.ParseActivity(b)
		if s, err := logpage.ParseVolume(b); err == nil && len(s.Serial) > 255*3 {
			t.Errorf("a serial number of %d bytes", len(s.Serial))
		}
	})
}
