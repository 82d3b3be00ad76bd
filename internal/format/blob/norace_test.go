//go:build !race

package blob_test

const spareAllocs = 0
