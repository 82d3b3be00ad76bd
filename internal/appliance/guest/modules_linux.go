package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

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

// Load loads modules that the machine was given for later, with what they need:
// for programs in the guest. A module that was not given may be a part of the
// kernel: it is left to whoever needs it to find out.
func Load(names ...string) error {
	b, err := os.ReadFile(LaterList)
	if err != nil {
		return err
	}
	var later map[string][]string
	if err := json.Unmarshal(b, &later); err != nil {
		return fmt.Errorf("%s: %w", LaterList, err)
	}
	for _, n := range names {
		if failed := loadModules(later[n]); failed != nil {
			return errors.New(strings.Join(failed, "; "))
		}
	}
	return nil
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
