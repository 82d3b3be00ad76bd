package tree

// tuner finds how many readers a device serves best, by trying. It only
// decides; the caller measures.
type tuner struct {
	now, most int
	before    float64 // rate with the number of readers before
	step      int     // +1 or -1: what was tried last; 0: nothing
	rest      int     // intervals in which nothing is tried
}

func newTuner(start, most int) *tuner { return &tuner{now: start, most: most} }

const (
	gain   = 1.05 // by so much another reader must be worth it
	restIn = 10   // intervals after a try that was none
)

// next returns the number of readers for the next interval. rate is what they
// did in the last one; starved is whether anybody waited for them: if not, the
// rate says nothing about the device.
func (t *tuner) next(rate float64, starved bool) int {
	switch {
	case !starved:
		t.step = 0
	case t.rest > 0:
		t.rest--
	case t.step != 0 && rate < t.before*gain: // it was not worth it
		t.now -= t.step
		t.step, t.rest = 0, restIn
	case t.now < t.most:
		t.before, t.step = rate, 1
		t.now++
	}
	return t.now
}
