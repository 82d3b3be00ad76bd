//go:build !race

package zstd_test

const spareAllocs = 0
