package target

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

func isFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

func isBusy(err error) bool {
	return errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_LOCK_VIOLATION)
}

func isReadOnly(err error) bool { return errors.Is(err, windows.ERROR_WRITE_PROTECT) }

// sparse asks for holes, which Windows makes in files that are marked so. A
// file system that has none makes the file as long as it is.
func sparse(f *os.File) error {
	var n uint32
	err := windows.DeviceIoControl(windows.Handle(f.Fd()), windows.FSCTL_SET_SPARSE, nil, 0, nil, 0, &n, nil)
	if errors.Is(err, windows.ERROR_INVALID_FUNCTION) {
		return nil
	}
	return err
}

func startWriteback(*os.File) {}

func punchFile(*os.File, int64, int64) error { return errors.ErrUnsupported }

func renameNew(from, to string) error { return renamePortable(from, to) }

func claim(*os.File) error { return nil }

// syncDir has no counterpart: NTFS journals names by itself.
func syncDir(string) error { return nil }
