package tcmu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

const configfsDir = "/sys/kernel/config"

// modules are those that make nodes, and those that other programs want of
// tapes and changers.
var modules = []struct {
	name   string
	wanted bool // only wanted
}{
	{"target_core_user", false},
	{"tcm_loop", false},
	{"sg", false},
	{"st", true},
	{"ch", true},
}

// Prepare loads the modules of the kernel that Attach needs, and mounts
// configfs, where they are not there yet.
func Prepare(ctx context.Context) error {
	for _, m := range modules {
		if err := load(ctx, m.name); err != nil && !m.wanted {
			return err
		}
	}
	if _, err := os.Stat(coreDir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := unix.Mount("configfs", configfsDir, "configfs", 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("mount configfs at %s: %w", configfsDir, err)
	}
	return available()
}

// load loads a module that is not loaded or built in.
func load(ctx context.Context, name string) error {
	if _, err := os.Stat("/sys/module/" + name); err == nil {
		return nil
	}
	out, err := exec.CommandContext(ctx, "modprobe", name).CombinedOutput()
	if err != nil {
		return fmt.Errorf("load the module %s: %w: %s", name, err, bytes.TrimSpace(out))
	}
	return nil
}
