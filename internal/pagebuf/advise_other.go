//go:build unix && !linux

package pagebuf

func adviseHuge([]byte) {}
