package nbd

import (
	"errors"
	"fmt"
	"syscall"
)

// Errno is an error number of the protocol. The numbers are those of Linux,
// whatever the systems at the two ends.
type Errno uint32

// The error numbers.
const (
	OK        Errno = 0
	EPERM     Errno = 1
	EIO       Errno = 5
	ENOMEM    Errno = 12
	EINVAL    Errno = 22
	ENOSPC    Errno = 28
	EOVERFLOW Errno = 75
	ENOTSUP   Errno = 95
	ESHUTDOWN Errno = 108
)

// errnos gives each number its name and the system's error.
var errnos = []struct {
	errno  Errno
	name   string
	system syscall.Errno
}{
	{EPERM, "EPERM", syscall.EPERM},
	{EIO, "EIO", syscall.EIO},
	{ENOMEM, "ENOMEM", syscall.ENOMEM},
	{EINVAL, "EINVAL", syscall.EINVAL},
	{ENOSPC, "ENOSPC", syscall.ENOSPC},
	{EOVERFLOW, "EOVERFLOW", syscall.EOVERFLOW},
	{ENOTSUP, "ENOTSUP", syscall.ENOTSUP},
	{ESHUTDOWN, "ESHUTDOWN", syscall.ESHUTDOWN},
}

func (e Errno) String() string {
	for _, x := range errnos {
		if x.errno == e {
			return x.name
		}
	}
	if e == OK {
		return "OK"
	}
	return fmt.Sprintf("errno %d", uint32(e))
}

// System is the error of this machine that means the same; a number that the
// protocol does not know means EINVAL.
func (e Errno) System() syscall.Errno {
	for _, x := range errnos {
		if x.errno == e {
			return x.system
		}
	}
	return syscall.EINVAL
}

// Error is a failure that travels on the wire: a number and, in structured and
// extended replies and in replies to options, a text.
//
// errors.Is(err, syscall.EIO) and the like hold for it.
type Error struct {
	Errno Errno
	Text  string // may be empty
}

func (e *Error) Error() string {
	if e.Text == "" {
		return "nbd: " + e.Errno.String() + ": " + e.Errno.System().Error()
	}
	return "nbd: " + e.Errno.String() + ": " + e.Text
}

// Unwrap gives the system's error.
func (e *Error) Unwrap() error { return e.Errno.System() }

// ErrnoOf finds the number that says best what err is: that of an [*Error] or
// of the system's error within it, otherwise EIO. No error is OK.
func ErrnoOf(err error) Errno {
	if err == nil {
		return OK
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Errno
	}
	for _, x := range errnos {
		if errors.Is(err, x.system) {
			return x.errno
		}
	}
	for _, full := range []syscall.Errno{syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, full) {
			return ENOSPC
		}
	}
	for _, no := range []syscall.Errno{syscall.EROFS, syscall.EACCES} {
		if errors.Is(err, no) {
			return EPERM
		}
	}
	if errors.Is(err, syscall.EOPNOTSUPP) {
		return ENOTSUP
	}
	return EIO
}
