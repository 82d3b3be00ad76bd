package guest

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// loadModules loads module files in order and says which did not load. A module
// that is there already is no failure.
func loadModules(files []string) (failed []string) {
	for _, name := range files {
		if err := loadModule(name); err != nil {
			failed = append(failed, err.Error())
		}
	}
	return failed
}

func loadModule(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("module: %w", err)
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("module %s: %w", name, err)
	}
	return nil
}
