//go:build unix && !linux

package overlay

import (
	"os"
)

func dataSync(f *os.File) error { return f.Sync() }
