package changer

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// loaded is what mhvtl 1.8 answers for a drive with a medium.
func loaded() string {
	label := hex.EncodeToString([]byte("E01001L8" + strings.Repeat(" ", 24)))
	return "01f400010000003c" + "0480003400000034" + "01f4010000000000008103e8" + label + "00000000" + "00000000"
}

func elementOpt() cmp.Option { return cmp.AllowUnexported(element{}) }

func TestAnswerOfARealChangerIsUnderstood(t *testing.T) {
	got, err := parse(append(unhex(t, loaded()), 1, 2, 3))
	if err != nil {
		t.Fatal(err)
	}
	want := []element{{kind: drive, address: 500, full: true, label: "E01001L8", source: 1000, hasSource: true}}
	if diff := cmp.Diff(want, got, elementOpt()); diff != "" {
		t.Error(diff)
	}
}

func TestDrivesSayWhoTheyAreInTwoForms(t *testing.T) {
	t10 := "IBM     ULT3580-TD8     1234567890"
	for _, tc := range []struct {
		name, id string
		want     element
	}{
		{"serial alone", "0200000a" + hex.EncodeToString([]byte("1234567890")), element{serial: "1234567890"}},
		{"vendor, model, serial", "02010022" + hex.EncodeToString([]byte(t10)), element{vendor: "IBM", model: "ULT3580-TD8", serial: "1234567890"}},
		{"an unknown form", "01030008" + "5000000000000001", element{}},
		{"longer than it is", "020000ff" + "3132", element{}},
		{"none", "", element{}},
	} {
		size := 12 + len(tc.id)/2
		b := unhex(t, "01f4000100000000 04000000000000"+hex.EncodeToString([]byte{byte(size)})+"01f400000000000000000000"+tc.id)
		b[7], b[11] = byte(8+size), byte(size)
		got, err := parse(b)
		if err != nil {
			t.Fatal(err)
		}
		tc.want.kind, tc.want.address = drive, 500
		if diff := cmp.Diff([]element{tc.want}, got, elementOpt()); diff != "" {
			t.Errorf("%s: %s", tc.name, diff)
		}
	}
}

func TestOddAnswersGiveWhatIsThere(t *testing.T) {
	noTag := "0000000100000014" + "0180000c0000000c" + "000000000000000000000000"
	got, err := parse(unhex(t, noTag))
	if diff := cmp.Diff([]element{{kind: transport}}, got, elementOpt()); err != nil || diff != "" {
		t.Errorf("a tag is promised and not sent: %v %s", err, diff)
	}
	counts := unhex(t, loaded())
	counts[5], counts[6], counts[13] = 0xff, 0xff, 0xff
	if got, err := parse(counts); err != nil || len(got) != 1 {
		t.Errorf("more is counted than sent: %v, %v", got, err)
	}
	for name, s := range map[string]string{
		"no head": "01f40001", "elements without length": "0000000100000014" + "018000000000000c" + "000000000000000000000000",
	} {
		if got, err := parse(unhex(t, s)); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(unhex(f, loaded()))
	f.Add(unhex(f, "0000000100000014"+"0180000c0000000c"+"000000000000000000000000"))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := parse(b)
		if err == nil && len(all)*fixed > len(b) {
			t.Errorf("%d elements in %d bytes", len(all), len(b))
		}
	})
}
