package deb

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Names of an unpacked kernel below its directory.
const (
	Image   = "vmlinuz"
	Modules = "modules" // what is /lib/modules/VERSION elsewhere
)

// UnpackKernel unpacks the kernel of the package file name to a new directory
// below dir, named for the kernel's version, and returns that version. A directory
// that is there already is complete and kept; an unpacking that is cut short leaves
// a directory that starts with ".".
func UnpackKernel(name, dir string) (version string, err error) {
	f, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("kernel package: %w", err)
	}
	defer f.Close()
	tr, err := Data(f)
	if err != nil {
		return "", fmt.Errorf("kernel package %s: %w", name, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("kernel package: %w", err)
	}
	tmp, err := os.MkdirTemp(dir, ".unpack-*")
	if err != nil {
		return "", fmt.Errorf("kernel package: %w", err)
	}
	defer os.RemoveAll(tmp)
	version, err = unpack(tr, tmp)
	if err != nil {
		return "", fmt.Errorf("kernel package %s: %w", name, err)
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", fmt.Errorf("kernel package: %w", err)
	}
	to := filepath.Join(dir, version)
	if err := os.Rename(tmp, to); err != nil && !isDir(to) { // whoever came first made the same
		return "", fmt.Errorf("kernel package: %w", err)
	}
	return version, nil
}

func isDir(name string) bool {
	fi, err := os.Stat(name)
	return err == nil && fi.IsDir()
}

// unpack writes the kernel image and its modules below dir, through a root, so
// that no name in the package leads out of it.
func unpack(tr *tar.Reader, dir string) (version string, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	image := false
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrFormat, err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		to, v := place(path.Clean("/" + h.Name))
		if to == "" {
			continue
		}
		if version != "" && v != version {
			return "", fmt.Errorf("it holds two kernels, %s and %s", version, v)
		}
		version = v
		image = image || to == Image
		if err := save(root, to, tr); err != nil {
			return "", err
		}
	}
	if strings.HasPrefix(version, ".") { // such a name would be hidden, or another directory
		return "", fmt.Errorf("it holds a kernel of version %q", version)
	}
	if !image {
		return "", errors.New("it holds no /boot/vmlinuz: a package such as linux-image-6.1.0-56-cloud-amd64 does, " +
			"linux-image-cloud-amd64 only names it")
	}
	return version, nil
}

// place says where a package's file goes and of which kernel it is: "" for no place.
func place(name string) (to, version string) {
	if v, ok := strings.CutPrefix(name, "/boot/vmlinuz-"); ok && !strings.Contains(v, "/") {
		return Image, v
	}
	name = strings.TrimPrefix(name, "/usr")
	if rest, ok := strings.CutPrefix(name, "/lib/modules/"); ok {
		v, file, ok := strings.Cut(rest, "/")
		if ok && (strings.HasPrefix(file, "kernel/") || strings.HasPrefix(file, "modules.")) {
			return path.Join(Modules, file), v
		}
	}
	return "", ""
}

func save(root *os.Root, name string, r io.Reader) error {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
