package measure

import "slices"

// Median sorts the values, of which there is at least one, and returns the one
// in the middle.
func Median(v []float64) float64 {
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
