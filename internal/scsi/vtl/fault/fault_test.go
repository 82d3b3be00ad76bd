package fault_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/fault"
)

// counter is a unit that counts commands.
type counter struct{ n int }

func (c *counter) Execute(_, _, _ []byte) (int, error) { c.n++; return 0, nil }

func run(t *testing.T, u *fault.Unit, ops ...scsi.Opcode) (failed []int) {
	t.Helper()
	for i, op := range ops {
		if _, err := u.Execute([]byte{byte(op), 0, 0, 0, 0, 0}, nil, nil); err != nil {
			failed = append(failed, i)
		}
	}
	return failed
}

func TestTheChosenCommandsFail(t *testing.T) {
	const w, r = scsi.Write6, scsi.Read6
	for _, tc := range []struct {
		text   string
		failed []int
		done   int // commands that reached the unit
	}{
		{"op=0a n=2 sense=3/0c/00", []int{3}, 5},
		{"op=0a n=2 times=2 lost done", []int{3, 5}, 6},
		{"n=5 times=-1 timeout", []int{4, 5}, 4},
		{"op=08,0a status=8", []int{0}, 5},
		{"op=08 n=3 twice", nil, 7},
	} {
		rule, err := fault.Parse(tc.text)
		if err != nil {
			t.Fatal(err)
		}
		c := &counter{}
		if failed := run(t, fault.New(c, rule), r, w, r, w, r, w); !slices.Equal(failed, tc.failed) || c.n != tc.done {
			t.Errorf("%s: %v failed and %d were carried out, want %v and %d", tc.text, failed, c.n, tc.failed, tc.done)
		}
		if !rule.Fired() {
			t.Errorf("%s: it says that it did not fire", tc.text)
		}
	}
}

func TestFaultsAreWhatTheRuleSays(t *testing.T) {
	rules := []*fault.Rule{
		{N: 1, Sense: &scsi.Sense{Key: scsi.MediumError, ASC: 0x0c}},
		{N: 2, Status: scsi.ReservationConflict},
		{N: 3, Timeout: true},
	}
	hooked := 0
	rules = append(rules, &fault.Rule{N: 4, Lost: true, Hook: func() { hooked++ }})
	u := fault.New(&counter{}, rules...)
	ask := func() error { _, err := u.Execute(make([]byte, 6), nil, nil); return err }
	if s, ok := scsi.AsSense(ask()); !ok || !s.Says(scsi.MediumError, 0x0c00) {
		t.Errorf("the first says %v", s)
	}
	if s, ok := errors.AsType[*scsi.StatusError](ask()); !ok || s.Status != scsi.ReservationConflict {
		t.Errorf("the second answers %v", s)
	}
	if e, ok := errors.AsType[*scsi.TransportError](ask()); !ok || !e.Timeout || !errors.Is(e, fault.ErrInjected) {
		t.Errorf("the third ends with %v", e)
	}
	if e, ok := errors.AsType[*scsi.TransportError](ask()); !ok || e.Timeout || hooked != 1 {
		t.Errorf("the fourth ends with %v, and its hook ran %d times", e, hooked)
	}
	if u.Count() != 4 || u.Count(scsi.Write6) != 0 {
		t.Errorf("%d commands, %d writes", u.Count(), u.Count(scsi.Write6))
	}
}

func TestTheSameSeedGivesTheSameFaults(t *testing.T) {
	ops := make([]scsi.Opcode, 500)
	failures := func(seed uint64) []int {
		u := fault.New(&counter{})
		u.Random(seed, 0.1, fault.Rule{Lost: true}, fault.Rule{Sense: &scsi.Sense{Key: scsi.HardwareError}})
		return run(t, u, ops...)
	}
	first := failures(7)
	if len(first) < 20 || len(first) > 100 || !slices.Equal(first, failures(7)) || slices.Equal(first, failures(8)) {
		t.Fatalf("%d of 500 failed, which should be about 50 and depend on the seed alone", len(first))
	}
}

func TestARuleThatSaysNothingIsRefused(t *testing.T) {
	for _, text := range []string{"", "op=0a", "lost timeout", "op=zz lost", "sense=3/0c", "sense=33/0/0", "later lost"} {
		if _, err := fault.Parse(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}
