package tree

import "testing"

// device answers so many requests a second for each reader, up to a number.
func settle(start, best int, each float64) int {
	t := newTuner(start, MaxReaders)
	n := start
	for range 200 {
		n = t.next(float64(min(n, best))*each, true)
	}
	return n
}

func TestReadersGrowToWhatTheDeviceServes(t *testing.T) {
	for _, best := range []int{1, 2, 4, 8, MaxReaders} {
		got := settle(1, best, 100)
		if got != best && got != best+1 { // one more is tried now and then
			t.Errorf("a device that serves %d at a time is read by %d", best, got)
		}
	}
}

func TestReadersStayAsTheyAreWhenNobodyWaitsForThem(t *testing.T) {
	tu := newTuner(2, MaxReaders)
	for i := range 100 {
		if n := tu.next(float64(i), false); n != 2 {
			t.Fatalf("%d readers", n)
		}
	}
}

func TestReaderThatBringsNothingIsTakenBack(t *testing.T) {
	tu := newTuner(2, MaxReaders)
	if n := tu.next(100, true); n != 3 {
		t.Fatalf("%d readers, want one more to try", n)
	}
	if n := tu.next(101, true); n != 2 {
		t.Errorf("%d readers, want the try undone", n)
	}
	for range restIn {
		if n := tu.next(100, true); n != 2 {
			t.Errorf("%d readers while nothing is to be tried", n)
		}
	}
	if n := tu.next(100, true); n != 3 {
		t.Errorf("%d readers, want another try", n)
	}
}
