package restore

import (
	"testing"
	"time"
)

func TestReadAheadGrowsWhileWaitingAndShrinksWhenIdle(t *testing.T) {
	var a ahead
	if a.depth() != startAhead {
		t.Fatal(a.depth())
	}
	note := func(wait time.Duration) {
		for range 16 * 10 {
			a.note(wait, 100)
		}
	}
	if note(90); a.depth() != maxAhead {
		t.Errorf("always waiting: %d", a.depth())
	}
	if note(15); a.depth() != maxAhead {
		t.Errorf("waiting a little: %d", a.depth())
	}
	if note(1); a.depth() != 0 {
		t.Errorf("never waiting: %d", a.depth())
	}
	if note(90); a.depth() != maxAhead {
		t.Errorf("waiting again: %d", a.depth())
	}
}
