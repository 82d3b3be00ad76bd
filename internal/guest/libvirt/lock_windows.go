package libvirt

import (
	"errors"
	"fmt"
	"os"
)

// errNoLibvirt says that there are no domains on this system.
var errNoLibvirt = fmt.Errorf("libvirt has no QEMU driver on Windows: %w", errors.ErrUnsupported)

func tryLock(*os.File) error { return errNoLibvirt }

func freeSpace(string) (int64, error) { return 0, errNoLibvirt }
