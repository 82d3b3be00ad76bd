package ext_test

import (
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread/ext"
	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
)

// variants are file systems that mke2fs can make and the kernel can mount.
var variants = []struct {
	name string
	kind string // as About says it
	mkfs []string
}{
	{"ext2", "ext2", []string{"mkfs.ext2"}},
	{"ext2, blocks of 1 KiB", "ext2", []string{"mkfs.ext2", "-b", "1024"}},
	{"ext2, first revision", "ext2", []string{"mkfs.ext2", "-r", "0"}},
	{"ext2 without kinds in entries", "ext2", []string{"mkfs.ext2", "-O", "^filetype,^dir_index,^sparse_super,^resize_inode"}},
	{"ext3", "ext3", []string{"mkfs.ext3"}},
	{"ext3, blocks of 2 KiB, small inodes", "ext3", []string{"mkfs.ext3", "-b", "2048", "-I", "128"}},
	{"ext4", "ext4", []string{"mkfs.ext4"}},
	{"ext4, blocks of 1 KiB, meta_bg", "ext4", []string{"mkfs.ext4", "-b", "1024", "-g", "1024", "-O", "meta_bg,^resize_inode"}},
	{"ext4, meta_bg without flex_bg", "ext4", []string{"mkfs.ext4", "-b", "1024", "-g", "256", "-O", "meta_bg,^resize_inode,^flex_bg,^64bit"}},
	{"ext4 without 64bit and checksums", "ext4", []string{"mkfs.ext4", "-O", "^64bit,^metadata_csum"}},
	{"ext4, checksums of groups alone", "ext4", []string{"mkfs.ext4", "-O", "^metadata_csum,uninit_bg"}},
	{"ext4, checksums of groups of 64 bytes", "ext4", []string{"mkfs.ext4", "-O", "^metadata_csum,uninit_bg,64bit"}},
	{"ext4, checksums with a seed", "ext4", []string{"mkfs.ext4", "-O", "metadata_csum_seed", "-U", "01234567-89ab-cdef-0123-456789abcdef"}},
	{"ext4, checksums of small inodes", "ext4", []string{"mkfs.ext4", "-I", "128", "-O", "metadata_csum"}},
	{"ext4, large inodes", "ext4", []string{"mkfs.ext4", "-I", "1024"}},
	{"ext4 without extents", "ext4", []string{"mkfs.ext4", "-O", "^extent,^64bit"}},
	{"ext4 without a journal", "ext4", []string{"mkfs.ext4", "-O", "^has_journal"}},
	{"ext4, clusters", "ext4", []string{"mkfs.ext4", "-O", "bigalloc", "-C", "16384"}},
	{"ext4, clusters of blocks of 1 KiB", "ext4", []string{"mkfs.ext4", "-b", "1024", "-O", "bigalloc,^resize_inode", "-C", "8192"}},
	{"ext4, inline data", "ext4", []string{"mkfs.ext4", "-O", "inline_data", "-I", "512"}},
	{"ext4, inline data in inodes of 256 bytes", "ext4", []string{"mkfs.ext4", "-b", "1024", "-O", "inline_data,ea_inode,large_dir", "-I", "256"}},
	{"ext4, values of attributes in inodes", "ext4", []string{"mkfs.ext4", "-O", "ea_inode"}},
	{"ext4, values of attributes in inodes without checksums", "ext4", []string{"mkfs.ext4", "-b", "1024", "-O", "ea_inode,^metadata_csum"}},
	{"ext4, two superblocks more", "ext4", []string{"mkfs.ext4", "-b", "1024", "-O", "sparse_super2,meta_bg,^resize_inode"}},
	{"ext4 that can encrypt, with protection from two mounts", "ext4", []string{"mkfs.ext4", "-O", "encrypt,mmp"}},
	{"ext4, fast commits, file of orphans", "ext4", []string{"mkfs.ext4", "-O", "fast_commit,orphan_file,stable_inodes"}},
}

func TestEveryVariantReadsAsTheKernelReadsIt(t *testing.T) {
	fsreadtest.Root(t)
	for i, v := range variants {
		if testing.Short() && i%5 != 0 {
			continue
		}
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			mkfs := append(append([]string(nil), v.mkfs...), "-q", "-F", "-L", "a label", "-N", "8192")
			img := fsreadtest.Make(t, 128*mib, mkfs...)
			dir, unmount := fsreadtest.Mount(t, img, "")
			fsreadtest.Tree(t, dir, "--big", "1")
			unmount()
			compare(t, img, v.kind)
		})
	}
}

// compare reads a clean image with the reader and with the kernel.
func compare(t *testing.T, img, kind string) *ext.FS {
	t.Helper()
	f, err := ext.Open(fsreadtest.OpenFile(t, img))
	if err != nil {
		t.Fatal(err)
	}
	a := f.About()
	if a.Type != kind || a.Label != "a label" || a.Notices != nil {
		t.Errorf("about: %+v, want %s", a, kind)
	}
	dir, unmount := fsreadtest.Mount(t, img, "ro")
	defer unmount()
	fsreadtest.Compare(t, f, dir, nil, nil)
	return f
}
