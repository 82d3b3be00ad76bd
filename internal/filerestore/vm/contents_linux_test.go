package vm

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/filerestore"
	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// drivers look at the same disks. The one that is unlocked is a direct one with the
// passphrase.
type drivers struct{ direct, unlocked, machine filerestore.Driver }

// summary is a tar archive in lines: all that it says of each file.
func summary(t *testing.T, archive []byte) (lines []string) {
	t.Helper()
	for in := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, in); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%c %q %o %d:%d %d at %d -> %q %d,%d %x %q", h.Typeflag, h.Name, h.Mode, h.Uid, h.Gid, h.Size,
			h.ModTime.UnixNano(), h.Linkname, h.Devmajor, h.Devminor, sum.Sum(nil)[:4], records(h)))
	}
}

// records are what a header has besides, without what it repeats.
func records(h *tar.Header) map[string]string {
	all := maps.Clone(h.PAXRecords)
	for _, k := range []string{"mtime", "path", "linkpath", "size"} {
		delete(all, k)
	}
	return all
}

// difference is the lines that only one of two has.
func difference(got, want []string) string {
	var b strings.Builder
	for _, l := range got {
		if !slices.Contains(want, l) {
			b.WriteString("+ " + l + "\n")
		}
	}
	for _, l := range want {
		if !slices.Contains(got, l) {
			b.WriteString("- " + l + "\n")
		}
	}
	return b.String()
}

// same holds the kernel's view against that of the readers in user space.
func (d drivers) same(t *testing.T) {
	for _, p := range []string{
		"/disk.img", "/disk.img/part", "/disk.img/part/1/etc", "/disk.img/part/1/etc/hosts", "/bare.img", "/lvm1.img", "/lvm2.img", "/lvm1.img/lvm",
		"/lvm1.img/lvm/the-group", "/lvm1.img/lvm/the-group/disk/part", "/arrays.img", "/xfs.img/raw", "/btrfs.img/raw", "/exfat.img/raw/deep/er",
	} {
		p = strings.Replace(p, ".img", ".img.fidx", 1)
		if want, got := listing(t, d.direct, p), listing(t, d.machine, p); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", p, got, want)
		}
	}
	for _, p := range []string{
		"/disk.img/part/1", "/disk.img/part/1/etc/hosts", "/lvm1.img/lvm/the-group/the-root", "/lvm2.img/lvm/the-group/thin",
		"/lvm2.img/lvm/the-group/striped", "/lvm1.img/lvm/the-group/disk/part/1", "/xfs.img/raw", "/btrfs.img/raw/deep-snapshot",
		"/btrfs.img/raw/sub/deep", "/journal.img/raw", "/exfat.img/raw/deep", "/vfat.img/raw", "/iso.img/raw",
	} {
		p = strings.Replace(p, ".img", ".img.fidx", 1)
		want, got := tarOf(t, d.direct, p), tarOf(t, d.machine, p)
		if !bytes.Equal(got, want) {
			t.Errorf("%s: the archives differ:\n%s", p, difference(summary(t, got), summary(t, want)))
		}
	}
}

// plain is a summary without times, which differ between volumes that were filled alike.
func plain(t *testing.T, archive []byte) (lines []string) {
	t.Helper()
	for _, l := range summary(t, archive) {
		before, after, _ := strings.Cut(l, " at ")
		if _, after, ok := strings.Cut(after, " "); ok {
			lines = append(lines, before+after)
		}
	}
	return lines
}

// machineAlone reads what the readers in user space refuse, or as they do. What is there
// was made as what those have read.
func (d drivers) machineAlone(t *testing.T) {
	volume := plain(t, tarOf(t, d.direct, "/lvm1.img.fidx/lvm/the-group/the-root"))
	for _, name := range []string{"striped", "array", "five", "ten"} {
		d.alike(t, "/arrays.img.fidx/md/"+name, volume)
	}
	tree := plain(t, tarOf(t, d.direct, "/bare.img.fidx/raw"))
	tree = slices.DeleteFunc(tree, func(l string) bool { return strings.Contains(l, "lost+found") })
	d.alike(t, "/squashfs.img.fidx/raw", tree)
	d.alike(t, "/erofs.img.fidx/raw", tree)
	same := plain(t, tarOf(t, d.direct, "/exfat.img.fidx/raw/deep"))
	for i, l := range same {
		if strings.HasPrefix(l, "0 ") {
			same[i] = strings.Replace(l, " 755 ", " 644 ", 1) // UDF has modes
		}
	}
	d.alike(t, "/udf.img.fidx/raw/deep", same)
}

// alike reads a tree in the machine.
func (d drivers) alike(t *testing.T, p string, want []string) {
	t.Helper()
	archive := tarOf(t, d.machine, p)
	if diff := difference(plain(t, archive), want); diff != "" {
		t.Errorf("%s:\n%s", p, diff)
	}
	if _, err := d.direct.List(t.Context(), path(t, p)); err == nil {
		if diff := difference(summary(t, archive), summary(t, tarOf(t, d.direct, p))); diff != "" {
			t.Errorf("%s, beside the readers in user space:\n%s", p, diff)
		}
	} else if _, ok := errors.AsType[*fsread.UnsupportedError](err); !ok {
		t.Errorf("%s: %v", p, err)
	}
}

// logged is about the log that btrfs keeps of single files: the kernel applies it.
func (d drivers) logged(t *testing.T) {
	if out := tarOf(t, d.machine, "/btrfs.img.fidx/raw/sub/last"); !bytes.Contains(out, []byte("written last\n")) {
		t.Errorf("%q", out)
	}
}

// named is about what has no files that could be read.
func (d drivers) named(t *testing.T) {
	notes := func(of filerestore.Driver, p string) (all []string) {
		list, err := of.List(t.Context(), path(t, p))
		if err != nil {
			return []string{err.Error()}
		}
		for _, e := range list {
			all = append(all, e.Path.Base()+": "+e.Note)
		}
		return all
	}
	for p, want := range map[string]string{
		"/disk.img.fidx/part": "[1: ext4, partition root 2: swap, partition swap 3: nothing that is known, partition BIOS boot]",
	} {
		for who, of := range map[string]filerestore.Driver{"direct": d.direct, "machine": d.machine} {
			if got := fmt.Sprint(notes(of, p)); got != want {
				t.Errorf("%s, %s: %s", who, p, got)
			}
		}
	}
	if got := fmt.Sprint(notes(d.machine, "/arrays.img.fidx/md")); got != "[striped: ext4 array: ext4 five: ext4 ten: ext4]" {
		t.Errorf("%s", got)
	}
	for p, want := range map[string]string{
		"/empty.img.fidx": "nothing that is known", "/ntfs.img.fidx/raw": "ntfs", "/disk.img.fidx/part/2": "swap", "/luks1.img.fidx/raw": "encrypted",
	} {
		if _, err := d.machine.List(t.Context(), path(t, p)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", p, err)
		}
	}
}

// encrypted opens LUKS 1 with a file system, and LUKS 2 with a volume group.
func (d drivers) encrypted(t *testing.T, c *Client) {
	p := path(t, "/luks1.img.fidx/raw/hosts")
	if _, err := d.machine.List(t.Context(), p); !errors.Is(err, filerestore.ErrLocked) {
		t.Errorf("%v", err)
	}
	if err := c.Unlock(t.Context(), p, []byte("let me out")); !errors.Is(err, filerestore.ErrPassphrase) {
		t.Errorf("%v", err)
	}
	if err := c.Unlock(t.Context(), p, []byte(passphrase)); err != nil {
		t.Fatal(err)
	}
	volume := plain(t, tarOf(t, d.direct, "/lvm1.img.fidx/lvm/the-group/the-root"))
	for _, p := range []string{"/luks1.img.fidx/raw", "/luks2.img.fidx/lvm/secret/root"} {
		archive := tarOf(t, d.machine, p)
		if diff := difference(plain(t, archive), volume); diff != "" {
			t.Errorf("%s:\n%s", p, diff)
		}
		if diff := difference(summary(t, archive), summary(t, tarOf(t, d.unlocked, p))); diff != "" {
			t.Errorf("%s, beside the readers in user space:\n%s", p, diff)
		}
	}
}
