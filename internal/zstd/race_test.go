//go:build race

package zstd_test

// spareAllocs is what the race detector costs: under it a sync.Pool drops what
// it is given now and then, on purpose, and the library in pure Go has some.
const spareAllocs = 16
