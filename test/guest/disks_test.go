package guest_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/appliance/appliancetest"
	"github.com/holdfast-backup/holdfast/internal/appliance/initramfs"
)

// part is a partition of a test disk, with the file "hello" in its file system.
type part struct {
	start, size int64 // MiB
	fstype      string
}

const mib = 1 << 20

// gptDisk and mbrDisk make what package inside expects.
func gptDisk(t *testing.T) string {
	return makeDisk(t, "gpt", 560, "label: gpt\n"+
		"start=1MiB, size=64MiB\nstart=65MiB, size=34MiB\nstart=100MiB, size=320MiB\nstart=420MiB, size=128MiB\n",
		part{1, 64, "ext4"}, part{65, 34, "vfat"}, part{100, 320, "xfs"}, part{420, 128, "btrfs"})
}

func mbrDisk(t *testing.T) string {
	return makeDisk(t, "mbr", 120, "label: dos\n"+
		"start=1MiB, size=64MiB, type=83\nstart=66MiB, size=52MiB, type=5\nstart=67MiB, size=34MiB, type=c\n",
		part{1, 64, "ext4"}, part{67, 34, "vfat"})
}

func makeDisk(t *testing.T, name string, size int64, table string, parts ...part) string {
	t.Helper()
	disk := filepath.Join(t.TempDir(), name+".img")
	f, err := os.Create(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size * mib); err != nil {
		t.Fatal(err)
	}
	host(t, table, "sfdisk", "-q", disk)
	for _, p := range parts {
		copySparse(t, f, p.start*mib, makeFS(t, p))
	}
	return disk
}

// makeFS makes a file system in a file of its own, without mounting it.
func makeFS(t *testing.T, p part) string {
	t.Helper()
	dir := t.TempDir()
	hello := filepath.Join(dir, "root", "hello")
	img := filepath.Join(dir, "img")
	if err := os.Mkdir(filepath.Dir(hello), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(hello, []byte("hello from "+p.fstype+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(img, nil, 0o644), os.Truncate(img, p.size*mib)); err != nil {
		t.Fatal(err)
	}
	switch p.fstype {
	case "ext4":
		host(t, "", "mkfs.ext4", "-q", "-F", "-d", filepath.Dir(hello), img)
	case "vfat":
		host(t, "", "mkfs.vfat", "-F", "32", "-s", "1", img)
		host(t, "", "mcopy", "-i", img, hello, "::hello")
	case "xfs":
		proto := filepath.Join(dir, "proto")
		if err := os.WriteFile(proto, []byte("/stand\n0 0\nd--755 0 0\nhello ---644 0 0 "+hello+"\n$\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		host(t, "", "mkfs.xfs", "-q", "-p", proto, img)
	case "btrfs":
		host(t, "", "mkfs.btrfs", "-q", "--rootdir", filepath.Dir(hello), img)
	}
	return img
}

// host runs a program of the host that the test needs.
func host(t *testing.T, stdin, tool string, args ...string) {
	t.Helper()
	p, err := initramfs.FindTool(tool)
	if err != nil {
		appliancetest.Lack(t, err)
	}
	cmd := exec.CommandContext(ctx(t), p, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v: %s", tool, args, err, out)
	}
}

// copySparse copies a file to an offset and leaves its zeros out.
func copySparse(t *testing.T, to io.WriterAt, off int64, from string) {
	t.Helper()
	f, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf, zero := make([]byte, mib), make([]byte, mib)
	for {
		n, err := io.ReadFull(f, buf)
		if n > 0 && !bytes.Equal(buf[:n], zero[:n]) {
			if _, werr := to.WriteAt(buf[:n], off); werr != nil {
				t.Fatal(werr)
			}
		}
		off += int64(n)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return
		case err != nil:
			t.Fatal(err)
		}
	}
}
