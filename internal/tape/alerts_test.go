package tape_test

import (
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/tape"
)

func TestAlertsHaveNamesAndMeanings(t *testing.T) {
	if got := tape.Alerts(0).String(); got != "(empty)" {
		t.Errorf("no flag is %q", got)
	}
	a := tape.Alerts(1<<0 | 1<<(0x16-1) | 1<<63)
	if want := "READ_WARNING | EXPIRED_CLEANING_MEDIA | FLAG_64"; a.String() != want {
		t.Errorf("got %q, want %q", a, want)
	}
	if c := a.Critical(); c != 1<<(0x16-1) {
		t.Errorf("critical are %v", c)
	}
	names, all := map[string]bool{}, tape.Alerts(0)
	all--
	for _, x := range all.List() {
		if names[x.Name] || !strings.HasSuffix(x.Meaning, ".") || !all.Has(x.Number) {
			t.Errorf("flag %+v", x)
		}
		names[x.Name] = true
	}
	if len(names) != 64 || all.Has(0) || all.Has(65) {
		t.Errorf("%d flags", len(names))
	}
}
