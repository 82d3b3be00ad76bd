package fusemount

import (
	"context"
	"testing"
)

func TestLinesOfTheMountTableAreRead(t *testing.T) {
	for _, tc := range []struct {
		name, line string
		want       Mount
		ok         bool
	}{
		{"ours", "36 35 0:52 / /mnt ro,nosuid - fuse.holdfast /srv/repo:host/a ro,user_id=0", Mount{"/mnt", "fuse.holdfast", "/srv/repo:host/a"}, true},
		{"optional fields", "36 35 0:52 / /mnt rw shared:7 master:1 - fuse x rw", Mount{"/mnt", "fuse", "x"}, true},
		{"escapes", `36 35 0:52 / /a\040b\134c\011d rw - fuse.x s\040t rw`, Mount{"/a b\\c\td", "fuse.x", "s t"}, true},
		{"another file system", "36 35 8:1 / /mnt rw - ext4 /dev/sda1 rw", Mount{}, false},
		{"the control file system", "36 35 0:52 / /sys/fs/fuse/connections rw - fusectl none rw", Mount{}, false},
		{"a short line", "36 35 0:52", Mount{}, false},
		{"nothing", "", Mount{}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, ok := parse(tc.line); got != tc.want || ok != tc.ok {
				t.Errorf("%+v, %v", got, ok)
			}
		})
	}
}

func TestNothingMountedIsNothingToUnmount(t *testing.T) {
	dir := t.TempDir()
	if on, err := Mounted(dir); err != nil || on || Dead(dir) {
		t.Errorf("%v, %v", on, err)
	}
	if err := Unmount(context.Background(), dir, false); err != nil {
		t.Error(err)
	}
}
