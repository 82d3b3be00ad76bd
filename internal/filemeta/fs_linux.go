package filemeta

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// FS is one mounted file system, and what its files can have. It is safe for
// concurrent use.
type FS struct {
	magic   uint32
	kind    fsKind
	has     atomic.Uint32 // features that have not been refused so far
	scratch sync.Pool     // of *scratch
}

// scratch is memory for the answers of the kernel. It is small, because the
// kernel takes as much, for each call; what is larger is asked for again.
type scratch struct {
	list, value []byte
}

const scratchSize = 1 << 10

// Features of file systems.
const (
	hasXattrs  = 1 << iota // and with them ACLs and capabilities
	hasFlags               // FS_IOC_GETFLAGS
	hasProject             // FS_IOC_FSGETXATTR
	hasFAT                 // FAT_IOCTL_GET_ATTRIBUTES
)

type fsKind struct {
	name    string
	has     uint32
	virtual bool // made up by the kernel: nothing to back up
	mixed   bool // files of several file systems: no answer counts for all
}

const (
	usual = hasXattrs | hasFlags
	quota = usual | hasProject
)

// kinds is what there is to know of file systems, by their magic.
var kinds = map[uint32]fsKind{
	unix.EXT4_SUPER_MAGIC:      {name: "ext4", has: quota},
	unix.XFS_SUPER_MAGIC:       {name: "xfs", has: quota},
	unix.BTRFS_SUPER_MAGIC:     {name: "btrfs", has: usual},
	0x2fc12fc1:                 {name: "zfs", has: quota},
	unix.F2FS_SUPER_MAGIC:      {name: "f2fs", has: quota},
	unix.BCACHEFS_SUPER_MAGIC:  {name: "bcachefs", has: quota},
	unix.FUSE_SUPER_MAGIC:      {name: "fuse", has: quota | hasFAT},
	unix.OVERLAYFS_SUPER_MAGIC: {name: "overlay", has: usual, mixed: true},
	unix.TMPFS_MAGIC:           {name: "tmpfs", has: usual},
	unix.RAMFS_MAGIC:           {name: "ramfs"},
	unix.NFS_SUPER_MAGIC:       {name: "nfs", has: hasXattrs},
	unix.SMB2_SUPER_MAGIC:      {name: "smb", has: usual},
	unix.CIFS_SUPER_MAGIC:      {name: "cifs", has: usual},
	unix.SQUASHFS_MAGIC:        {name: "squashfs", has: hasXattrs},
	unix.EROFS_SUPER_MAGIC_V1:  {name: "erofs", has: usual},
	unix.ISOFS_SUPER_MAGIC:     {name: "isofs"},
	unix.MSDOS_SUPER_MAGIC:     {name: "fat", has: hasFAT},
	unix.EXFAT_SUPER_MAGIC:     {name: "exfat", has: hasFAT},

	unix.BINFMTFS_MAGIC:      {name: "binfmt_misc", virtual: true},
	unix.BPF_FS_MAGIC:        {name: "bpf", virtual: true},
	unix.CGROUP_SUPER_MAGIC:  {name: "cgroup", virtual: true},
	unix.CGROUP2_SUPER_MAGIC: {name: "cgroup2", virtual: true},
	0x62656570:               {name: "configfs", virtual: true},
	unix.DEBUGFS_MAGIC:       {name: "debugfs", virtual: true},
	unix.DEVPTS_SUPER_MAGIC:  {name: "devpts", virtual: true},
	unix.EFIVARFS_MAGIC:      {name: "efivarfs", virtual: true},
	0x65735543:               {name: "fusectl", virtual: true},
	unix.HUGETLBFS_MAGIC:     {name: "hugetlbfs", virtual: true},
	0x19800202:               {name: "mqueue", virtual: true},
	0x6e667364:               {name: "nfsd", virtual: true},
	unix.NSFS_MAGIC:          {name: "nsfs", virtual: true},
	unix.PROC_SUPER_MAGIC:    {name: "proc", virtual: true},
	unix.PSTOREFS_MAGIC:      {name: "pstore", virtual: true},
	0x67596969:               {name: "rpc_pipefs", virtual: true},
	unix.SECURITYFS_MAGIC:    {name: "securityfs", virtual: true},
	unix.SELINUX_MAGIC:       {name: "selinuxfs", virtual: true},
	unix.SMACK_MAGIC:         {name: "smackfs", virtual: true},
	unix.SYSFS_MAGIC:         {name: "sysfs", virtual: true},
	unix.TRACEFS_MAGIC:       {name: "tracefs", virtual: true},
}

// Of returns the file system that an open file or directory lies on.
func Of(fd int) (*FS, error) {
	var st unix.Statfs_t
	err := unix.Fstatfs(fd, &st)
	for errors.Is(err, unix.EINTR) {
		err = unix.Fstatfs(fd, &st)
	}
	if err != nil {
		return nil, fmt.Errorf("ask for the file system: %w", err)
	}
	return newFS(uint32(st.Type)), nil
}

func newFS(magic uint32) *FS {
	kind, known := kinds[magic]
	if !known {
		kind = fsKind{name: fmt.Sprintf("%#x", magic), has: usual}
	}
	f := &FS{magic: magic, kind: kind}
	f.has.Store(kind.has)
	f.scratch.New = func() any {
		return &scratch{make([]byte, scratchSize), make([]byte, scratchSize)}
	}
	return f
}

// Name is that of the file system, "ext4", or its magic number, "0x1234". Those
// that share a magic share the name.
func (f *FS) Name() string { return f.kind.name }

// Virtual reports whether the kernel makes the files up, as those of proc: they
// are not worth a backup, and some never end.
func (f *FS) Virtual() bool { return f.kind.virtual }

// can reports whether files may have a feature.
func (f *FS) can(feature uint32) bool { return f.has.Load()&feature != 0 }

// refused notes that the file system does not know a feature, if err says so.
func (f *FS) refused(feature uint32, err error) bool {
	switch err { //nolint:errorlint // package unix returns them bare
	case unix.EOPNOTSUPP, unix.ENOTTY, unix.ENOSYS:
		if !f.kind.mixed {
			f.has.And(^feature)
		}
		return true
	case unix.EBADF, unix.EINVAL:
		return true
	}
	return false
}
