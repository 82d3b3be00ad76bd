package initramfs

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// closure returns the program and all files that the dynamic loader will open
// for it: the loader itself and the libraries, by the paths under which it looks.
func closure(program string) ([]string, error) {
	c := libraries{seen: map[string]bool{}}
	if err := c.add(program); err != nil {
		return nil, err
	}
	return c.files, nil
}

type libraries struct {
	seen  map[string]bool
	files []string
}

func (c *libraries) add(name string) error {
	if c.seen[name] {
		return nil
	}
	c.seen[name] = true
	c.files = append(c.files, name)
	f, err := elf.Open(name)
	if err != nil {
		if _, bad := errors.AsType[*elf.FormatError](err); bad {
			return nil // a script or data
		}
		return err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		b := make([]byte, min(p.Filesz, 4096))
		if _, err := p.ReadAt(b, 0); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := c.add(strings.TrimRight(string(b), "\x00")); err != nil {
			return err
		}
	}
	needed, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, lib := range needed {
		p, err := findLibrary(f, name, lib)
		if err != nil {
			return err
		}
		if err := c.add(p); err != nil {
			return err
		}
	}
	return nil
}

// findLibrary looks where the loader looks: the file's own run path, then the
// system's directories. What /etc/ld.so.conf adds is left out, because a guest has no cache of it.
func findLibrary(f *elf.File, name, lib string) (string, error) {
	var dirs []string
	for _, tag := range []elf.DynTag{elf.DT_RPATH, elf.DT_RUNPATH} {
		paths, err := f.DynString(tag)
		if err != nil {
			continue // no dynamic section
		}
		for _, p := range paths {
			for d := range strings.SplitSeq(p, ":") {
				dirs = append(dirs, strings.NewReplacer("$ORIGIN", filepath.Dir(name), "${ORIGIN}", filepath.Dir(name)).Replace(d))
			}
		}
	}
	for _, base := range []string{"/lib", "/usr/lib"} {
		dirs = append(dirs, base+"/"+multiarch(f.Machine), base+"64", base)
	}
	for _, d := range dirs {
		p := filepath.Join(d, lib)
		if g, err := elf.Open(p); err == nil {
			same := g.Machine == f.Machine && g.Class == f.Class
			_ = g.Close()
			if same {
				return p, nil
			}
		}
	}
	return "", fmt.Errorf("library %s of %s: %w in %s", lib, name, fs.ErrNotExist, strings.Join(dirs, ":"))
}

// multiarch is Debian's name for the directory of a machine's libraries.
func multiarch(m elf.Machine) string {
	switch m {
	case elf.EM_X86_64:
		return "x86_64-linux-gnu"
	case elf.EM_AARCH64:
		return "aarch64-linux-gnu"
	}
	return "unknown"
}

// FindTool looks for a program on the path and where administrators' tools are.
func FindTool(name string) (string, error) {
	if strings.Contains(name, "/") {
		_, err := os.Stat(name)
		return name, err
	}
	if p, err := exec.LookPath(name); err == nil {
		return filepath.Abs(p)
	}
	for _, d := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if p, err := exec.LookPath(filepath.Join(d, name)); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("program %s: %w", name, exec.ErrNotFound)
}
