package filemeta

import "github.com/holdfast-backup/holdfast/internal/format/pxar"

// flag is an attribute in an archive and on a file system.
type flag struct {
	archive uint64
	kernel  uint32
}

// inodeFlags are those of FS_IOC_GETFLAGS.
var inodeFlags = [...]flag{
	{pxar.FlagAppend, 0x20},
	{pxar.FlagNoAtime, 0x80},
	{pxar.FlagCompress, 0x4},
	{pxar.FlagNoCOW, 0x80_0000},
	{pxar.FlagNoDump, 0x40},
	{pxar.FlagDirSync, 0x1_0000},
	{pxar.FlagImmutable, 0x10},
	{pxar.FlagSync, 0x8},
	{pxar.FlagNoCompress, 0x400},
	{pxar.FlagProjectInherit, 0x2000_0000},
}

// fatFlags are those of FAT_IOCTL_GET_ATTRIBUTES.
var fatFlags = [...]flag{
	{pxar.FlagHidden, 2},
	{pxar.FlagSystem, 4},
	{pxar.FlagArchive, 32},
}

// InodeFlags are the flags of an archive as FS_IOC_GETFLAGS would return them.
func InodeFlags(flags uint64) uint32 { return toKernel(inodeFlags[:], flags) }

// FATFlags are those of FAT_IOCTL_GET_ATTRIBUTES.
func FATFlags(flags uint64) uint32 { return toKernel(fatFlags[:], flags) }

// earlyFlags count for content that is written later, or only for an empty
// file: they are set before it.
const earlyFlags = pxar.FlagNoAtime | pxar.FlagCompress | pxar.FlagNoCOW | pxar.FlagNoCompress | pxar.FlagProjectInherit

// toArchive translates the kernel's flags, toKernel those of an archive.
func toArchive(table []flag, kernel uint32) (flags uint64) {
	if kernel == 0 {
		return 0
	}
	for _, f := range table {
		if kernel&f.kernel != 0 {
			flags |= f.archive
		}
	}
	return flags
}

func toKernel(table []flag, flags uint64) (kernel uint32) {
	for _, f := range table {
		if flags&f.archive != 0 {
			kernel |= f.kernel
		}
	}
	return kernel
}
