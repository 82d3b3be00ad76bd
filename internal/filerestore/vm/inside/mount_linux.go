package inside

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/appliance/guest"
	"github.com/holdfast-backup/holdfast/internal/filerestore"
	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/detect"
)

const mountFlags = unix.MS_RDONLY | unix.MS_NOEXEC | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOATIME

// kernelFS is how the kernel reads a type of file system.
type kernelFS struct {
	driver  string
	modules []string
	options string // that are wanted anyway
	unclean string // added where the journal cannot be applied
}

var kernelTypes = map[string]kernelFS{
	"ext4":     {driver: "ext4", unclean: "noload"},
	"xfs":      {driver: "xfs", options: "nouuid", unclean: "norecovery"},
	"btrfs":    {driver: "btrfs", options: "subvolid=5", unclean: "rescue=nologreplay"},
	"vfat":     {driver: "vfat", modules: []string{"nls_cp437", "nls_iso8859-1", "nls_ascii", "nls_utf8"}, options: "iocharset=iso8859-1,utf8=1"},
	"exfat":    {driver: "exfat", modules: []string{"nls_utf8"}, options: "iocharset=utf8"},
	"ntfs":     {driver: "ntfs3", modules: []string{"nls_utf8"}, options: "iocharset=utf8", unclean: "force"},
	"iso9660":  {driver: "iso9660", modules: []string{"isofs", "nls_utf8"}, options: "iocharset=utf8"},
	"udf":      {driver: "udf", modules: []string{"nls_utf8"}, options: "iocharset=utf8"},
	"squashfs": {driver: "squashfs"},
	"erofs":    {driver: "erofs"},
	"f2fs":     {driver: "f2fs", unclean: "norecovery"},
	"jfs":      {driver: "jfs"},
	"reiserfs": {driver: "reiserfs", unclean: "nolog"},
	"hfsplus":  {driver: "hfsplus"},
	"bcachefs": {driver: "bcachefs", unclean: "norecovery"},
	"ufs":      {driver: "ufs", options: "ufstype=ufs2"},
}

// Modules are those of all file systems and volumes that the machine may need, where its
// kernel has them.
func Modules() []string {
	all := []string{
		"loop", "dm-mod", "dm-crypt", "dm-snapshot", "dm-thin-pool", "dm-mirror", "dm-raid",
		"md-mod", "raid0", "raid1", "raid10", "raid456", "linear", "xts", "cbc", "essiv", "aes-generic", "aesni-intel", "sha256-generic",
	}
	for _, t := range slices.Sorted(maps.Keys(kernelTypes)) {
		k := kernelTypes[t]
		all = append(all, k.modules...)
		if k.driver != "iso9660" {
			all = append(all, k.driver)
		}
	}
	return all
}

// mounted mounts a volume, unless it is.
func (m *machine) mounted(v volume, f detect.Finding, base filerestore.Path, names []string) (place, error) {
	at := place{mount: "/mnt/" + filepath.Base(v.dev), names: names, at: base}
	if isMounted(at.mount) {
		return at, nil
	}
	k, ok := kernelTypes[f.Type]
	if !ok {
		return at, fsread.Unsupported(f.Type, "this file system in the restore machine")
	}
	if err := guest.Load(append(k.modules, k.driver)...); err != nil {
		return at, err
	}
	if f.Type == "btrfs" {
		m.scanBtrfs()
	}
	if err := os.MkdirAll(at.mount, 0o700); err != nil {
		return at, err
	}
	err := unix.Mount(v.dev, at.mount, k.driver, mountFlags, k.options)
	if err != nil && k.unclean != "" && !errors.Is(err, unix.ENODEV) {
		options := k.unclean
		if k.options != "" {
			options = k.options + "," + options
		}
		if unix.Mount(v.dev, at.mount, k.driver, mountFlags, options) == nil {
			m.notice("%s: the journal could not be applied (%v): files that were written last may be missing", base, err)
			return at, nil
		}
	}
	switch {
	case errors.Is(err, unix.ENODEV):
		return at, fsread.Unsupported(f.Type, "this file system by the restore machine's kernel")
	case err != nil:
		return at, fmt.Errorf("%s: mount %s: %w", base, k.driver, err)
	}
	return at, nil
}

// isMounted reports whether something is mounted on a directory that is ours.
func isMounted(dir string) bool {
	var here, above unix.Stat_t
	return unix.Lstat(dir, &here) == nil && unix.Lstat("/mnt", &above) == nil && here.Dev != above.Dev
}

// scanBtrfs tells the kernel of all devices with btrfs, since one may span several.
func (m *machine) scanBtrfs() {
	control, err := os.OpenFile("/dev/btrfs-control", os.O_RDWR, 0)
	if err != nil {
		return // mounting says what is wrong
	}
	defer control.Close()
	for _, v := range m.allMembers("btrfs") {
		if err := btrfsScan(control, v.dev); err != nil {
			m.notice("btrfs: %s: %v", v.dev, err)
		}
	}
}
