package nbd_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

func TestErrorsCrossTheWire(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want nbd.Errno
	}{
		{nil, nbd.OK},
		{io.ErrUnexpectedEOF, nbd.EIO},
		{fmt.Errorf("write: %w", syscall.ENOSPC), nbd.ENOSPC},
		{&fs.PathError{Op: "write", Path: "overlay", Err: syscall.EFBIG}, nbd.ENOSPC},
		{syscall.EDQUOT, nbd.ENOSPC},
		{syscall.EROFS, nbd.EPERM},
		{syscall.EACCES, nbd.EPERM},
		{syscall.ENOMEM, nbd.ENOMEM},
		{syscall.EOPNOTSUPP, nbd.ENOTSUP},
		{fmt.Errorf("chunk: %w", &nbd.Error{Errno: nbd.EOVERFLOW}), nbd.EOVERFLOW},
	} {
		if got := nbd.ErrnoOf(tc.err); got != tc.want {
			t.Errorf("%v is %v, want %v", tc.err, got, tc.want)
		}
	}
	for _, e := range []nbd.Errno{nbd.EPERM, nbd.EIO, nbd.ENOMEM, nbd.EINVAL, nbd.ENOSPC, nbd.EOVERFLOW, nbd.ENOTSUP, nbd.ESHUTDOWN} {
		if nbd.ErrnoOf(e.System()) != e {
			t.Errorf("%v does not survive the system's numbers", e)
		}
	}
	if !errors.Is(&nbd.Error{Errno: 4711}, syscall.EINVAL) {
		t.Error("an unknown number is not EINVAL")
	}
	if got := (&nbd.Error{Errno: nbd.EIO, Text: "chunk 3f is corrupt"}).Error(); got != "nbd: EIO: chunk 3f is corrupt" {
		t.Error(got)
	}
}
