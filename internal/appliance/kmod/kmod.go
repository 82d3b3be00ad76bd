// Package kmod finds kernel modules, what they need, and the order to load them in.
//
// A tree of modules is a directory such as /lib/modules/6.1.0-56-cloud-amd64, as
// it lies on a host or in a kernel package. Its files modules.dep and modules.softdep
// are not used: a package does not have them, depmod writes them at installation. The
// same facts are in each module's ELF section ".modinfo", as strings that end with NUL:
//
//	name=nbd
//	depends=a,b            must be loaded before
//	softdep=pre: c post: d c should be loaded before, if there is such a module
//
// Names are compared with "-" and "_" taken as equal, as the kernel does. Files end with
// .ko, or .ko.xz, .ko.gz, .ko.zst; [Module.Read] gives the plain bytes.
//
// # Errors
//
// [ErrNoModule] when the tree has no such module and modules.builtin does not name
// it as part of the kernel. What a soft dependency names may be missing.
package kmod

import (
	"bufio"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// ErrNoModule is wrapped when a kernel lacks a module.
var ErrNoModule = errors.New("the kernel has no such module")

// Tree is the modules of one kernel.
type Tree struct {
	dir     string
	files   map[string]string // name to path below dir
	builtin map[string]bool
}

// Module is a module to load.
type Module struct {
	Name string // with "_"
	Path string // below the tree's directory, with the compression's suffix
	Data []byte // plain ELF
}

// Open lists the tree at dir.
func Open(dir string) (*Tree, error) {
	t := &Tree{dir: dir, files: map[string]string{}, builtin: map[string]bool{}}
	err := filepath.WalkDir(filepath.Join(dir, "kernel"), func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if name, ok := moduleName(e.Name()); ok {
			rel, err := filepath.Rel(dir, p)
			if err != nil {
				return err
			}
			t.files[name] = rel
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("kernel modules: %w", err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("kernel modules: %w", err)
	}
	for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan(); {
		if name, ok := moduleName(path.Base(sc.Text())); ok {
			t.builtin[name] = true
		}
	}
	return t, nil
}

// Names lists all modules, sorted.
func (t *Tree) Names() []string {
	names := make([]string, 0, len(t.files))
	for n := range t.files {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Has reports whether the kernel has the module, built in or as a file.
func (t *Tree) Has(name string) bool {
	name = normal(name)
	return t.builtin[name] || t.files[name] != ""
}

// Closure returns the named modules and all that they need, each once, in an
// order in which they load. Modules that are built in are left out.
func (t *Tree) Closure(names ...string) ([]Module, error) {
	c := closure{tree: t, state: map[string]int{}}
	for _, n := range names {
		if err := c.add(normal(n), true); err != nil {
			return nil, err
		}
	}
	return c.order, nil
}

type closure struct {
	tree  *Tree
	state map[string]int // 1: being added, 2: in order
	order []Module
}

func (c *closure) add(name string, must bool) error {
	if c.state[name] != 0 || c.tree.builtin[name] {
		return nil // a circle cannot be loaded in any order; the kernel will say so
	}
	file := c.tree.files[name]
	if file == "" {
		if !must {
			return nil
		}
		return fmt.Errorf("module %s in %s: %w", name, c.tree.dir, ErrNoModule)
	}
	c.state[name] = 1
	data, err := read(filepath.Join(c.tree.dir, file))
	if err != nil {
		return fmt.Errorf("module %s: %w", name, err)
	}
	needs, wishes, err := parse(data)
	if err != nil {
		return fmt.Errorf("module %s (%s): %w", name, file, err)
	}
	for _, n := range wishes {
		if err := c.add(n, false); err != nil {
			return err
		}
	}
	for _, n := range needs {
		if err := c.add(n, true); err != nil {
			return err
		}
	}
	c.state[name] = 2
	c.order = append(c.order, Module{Name: name, Path: filepath.ToSlash(file), Data: data})
	return nil
}

// parse reads a module's dependencies from its .modinfo section.
func parse(data []byte) (needs, wishes []string, err error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, nil, err
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, nil, errors.New("no .modinfo section: not a kernel module")
	}
	info, err := s.Data()
	if err != nil {
		return nil, nil, err
	}
	for line := range bytes.SplitSeq(info, []byte{0}) {
		key, value, _ := strings.Cut(string(line), "=")
		switch key {
		case "depends":
			for n := range strings.SplitSeq(value, ",") {
				if n != "" {
					needs = append(needs, normal(n))
				}
			}
		case "softdep":
			wishes = append(wishes, pre(value)...)
		}
	}
	return needs, wishes, nil
}

// pre returns the modules of a softdep line that come before.
func pre(softdep string) (names []string) {
	before := false
	for w := range strings.FieldsSeq(softdep) {
		switch {
		case strings.HasSuffix(w, ":"):
			before = w == "pre:"
		case before:
			names = append(names, normal(w))
		}
	}
	return names
}

func normal(name string) string { return strings.ReplaceAll(name, "-", "_") }

// moduleName turns a file's name into a module's.
func moduleName(file string) (string, bool) {
	for _, suffix := range []string{"", ".xz", ".gz", ".zst"} {
		if base, ok := strings.CutSuffix(file, ".ko"+suffix); ok {
			return normal(base), true
		}
	}
	return "", false
}
