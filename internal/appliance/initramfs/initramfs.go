// Package initramfs builds the appliance's root file system: a cpio archive in the
// "newc" form that the kernel unpacks into memory.
//
// The same content gives the same bytes: entries are sorted, times are zero, owners are
// root, inode numbers count up. Directories above an entry come by themselves. The archive
// is not compressed: unpacking takes the guest longer than reading it.
//
// A program of the host comes with its dynamic loader and libraries ([Builder.AddTool]);
// they are found in the ELF headers, as ld.so does, without running anything. Programs
// that open further libraries while they run (NSS, plug-ins) do not get these.
package initramfs

import (
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"
)

// Builder collects what the archive shall hold. A name that is added twice must
// have the same content.
type Builder struct {
	entries map[string]cpio.Record
}

// New returns a builder that holds what the kernel needs before any program
// runs: /dev/console and /dev/null.
func New() *Builder {
	b := &Builder{entries: map[string]cpio.Record{}}
	for _, r := range []cpio.Record{
		cpio.CharDev("dev/console", 0o600, 5, 1),
		cpio.CharDev("dev/null", 0o666, 1, 3),
		cpio.Directory("root", 0o700),
	} {
		b.entries[r.Name] = r
	}
	return b
}

// Add adds a file at an absolute path.
func (b *Builder) Add(name string, content []byte, mode os.FileMode) error {
	return b.add(cpio.StaticRecord(content, cpio.Info{
		Name: entryName(name), Mode: cpio.S_IFREG | unixMode(mode),
	}), len(content))
}

// unixMode keeps the bits that make a program another user's: fusermount3 needs them.
func unixMode(m os.FileMode) uint64 {
	bits := uint64(m.Perm())
	if m&os.ModeSetuid != 0 {
		bits |= 0o4000
	}
	if m&os.ModeSetgid != 0 {
		bits |= 0o2000
	}
	return bits
}

// AddFile adds a copy of the host's file.
func (b *Builder) AddFile(name, from string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("initramfs: %w", err)
	}
	fi, err := os.Stat(from)
	if err != nil {
		return fmt.Errorf("initramfs: %w", err)
	}
	return b.Add(name, content, fi.Mode())
}

// AddTool adds a program of the host, by name or path, with its libraries, under
// the paths that they have on the host.
func (b *Builder) AddTool(name string) error {
	p, err := FindTool(name)
	if err != nil {
		return fmt.Errorf("initramfs: %w", err)
	}
	files, err := closure(p)
	if err != nil {
		return fmt.Errorf("initramfs: program %s: %w", name, err)
	}
	for _, f := range files {
		if err := b.AddFile(f, f); err != nil {
			return err
		}
	}
	return nil
}

func (b *Builder) add(r cpio.Record, size int) error {
	if r.Name == "" || strings.HasPrefix(r.Name, "../") {
		return fmt.Errorf("initramfs: no file can be named %q", r.Name)
	}
	if old, ok := b.entries[r.Name]; ok {
		if old.FileSize != uint64(size) || old.Mode != r.Mode || !sameContent(old, r) {
			return fmt.Errorf("initramfs: two different files are to be /%s", r.Name)
		}
		return nil
	}
	b.entries[r.Name] = r
	return nil
}

func sameContent(a, b cpio.Record) bool {
	x, errA := io.ReadAll(io.NewSectionReader(a, 0, int64(a.FileSize)))
	y, errB := io.ReadAll(io.NewSectionReader(b, 0, int64(b.FileSize)))
	return errA == nil && errB == nil && string(x) == string(y)
}

func entryName(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// Has reports whether a file is there already.
func (b *Builder) Has(name string) bool {
	_, ok := b.entries[entryName(name)]
	return ok
}

// WriteTo writes the archive.
func (b *Builder) WriteTo(w io.Writer) (int64, error) {
	c := &counter{w: w}
	out := cpio.Newc.Writer(c)
	for i, name := range b.names() {
		r, ok := b.entries[name]
		if !ok {
			r = cpio.Directory(name, 0o755)
		}
		r = cpio.MakeReproducible(r)
		r.Ino, r.NLink = uint64(i+1), 1
		if err := out.WriteRecord(r); err != nil {
			return c.n, fmt.Errorf("initramfs: %w", err)
		}
	}
	if err := cpio.WriteTrailer(out); err != nil {
		return c.n, fmt.Errorf("initramfs: %w", err)
	}
	return c.n, nil
}

// names lists entries and the directories above them, sorted: so a directory
// comes before what is in it.
func (b *Builder) names() []string {
	all := map[string]bool{}
	for name := range b.entries {
		for ; name != "."; name = path.Dir(name) {
			all[name] = true
		}
	}
	names := make([]string, 0, len(all))
	for n := range all {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
