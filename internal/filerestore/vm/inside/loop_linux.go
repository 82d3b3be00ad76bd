package inside

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/appliance/guest"
	"github.com/holdfast-backup/holdfast/internal/kernel/loop"
)

// throughLoop gives a volume of a kind that has no partitions a loop device, once, and
// returns its name.
func (v volume) throughLoop() (name string, err error) {
	real, err := filepath.EvalSymlinks(v.dev)
	if err != nil {
		return "", err
	}
	if err := guest.Load("loop"); err != nil {
		return "", err
	}
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return "", err
	}
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.TrimSpace(string(b)) == real {
			return filepath.Base(filepath.Dir(filepath.Dir(f))), nil
		}
	}
	backing, err := os.OpenFile(real, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer backing.Close()
	d, err := loop.Attach(context.Background(), int(backing.Fd()), loop.Options{PartScan: true, Number: loop.AnyNumber})
	if err != nil {
		return "", fmt.Errorf("partitions of %s: %w", v.dev, err)
	}
	return filepath.Base(d.Path()), d.Close()
}
