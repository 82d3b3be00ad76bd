package appliance

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/appliance/deb"
)

// ErrNoKernel is wrapped when no kernel can be found for the appliance.
var ErrNoKernel = errors.New("no kernel for the appliance")

// SystemCache is the cache that an administrator fills for everybody.
const SystemCache = "/var/cache/holdfast/appliance"

// Kernel is a kernel and its modules.
type Kernel struct {
	Version string // as uname -r
	Image   string // file: what the boot loader loads
	Modules string // directory: what is /lib/modules/VERSION on its own system
}

// KernelSearch says where to look. The zero value looks in the usual places.
type KernelSearch struct {
	// Path is a kernel in the cache's form (a directory with vmlinuz and
	// modules/), a Debian package file, or an image file whose modules are ModulesDir.
	// Nothing else is looked at then.
	Path       string
	ModulesDir string   // for Path only; "": /lib/modules/VERSION of the image vmlinuz-VERSION
	Caches     []string // nil: the user's cache, then SystemCache. Packages are unpacked to the first
	Boot       string   // "": /boot
	Lib        string   // "": /lib/modules
	Flavour    string   // only versions that end with "-"+Flavour, as "cloud-amd64"; "": any
	Arch       string   // amd64 or arm64; "": as this program
}

// UserCache is the directory below the user's cache directory.
func UserCache() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "holdfast", "appliance"), nil
}

// FindKernel looks for a kernel: Path; unpacked ones in the caches; the
// host's own; package files (linux-image-*.deb) in the caches. In each place the newest wins.
func FindKernel(s KernelSearch) (Kernel, error) {
	if s.Caches == nil {
		if dir, err := UserCache(); err == nil {
			s.Caches = append(s.Caches, dir)
		}
		s.Caches = append(s.Caches, SystemCache)
	}
	p, err := platformOf(s.Arch)
	if err != nil {
		return Kernel{}, err
	}
	if s.Path != "" {
		return s.named(p)
	}
	for _, find := range []func(platform) (Kernel, error){s.unpacked, s.installed, s.packaged} {
		k, err := find(p)
		if !errors.Is(err, fs.ErrNotExist) {
			return k, err
		}
	}
	flavour := s.Flavour
	if flavour == "" {
		flavour = "cloud-" + p.arch
	}
	return Kernel{}, fmt.Errorf("%w in %s, %s: install Debian's package linux-image-%s, or put the "+
		"package file linux-image-VERSION-%s_*.deb (apt-get download) into %s",
		ErrNoKernel, strings.Join(s.Caches, ", "), or(s.Boot, "/boot"), flavour, flavour, s.Caches[0])
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

func (s KernelSearch) named(p platform) (Kernel, error) {
	fi, err := os.Stat(s.Path)
	if err != nil {
		return Kernel{}, fmt.Errorf("%w: %w", ErrNoKernel, err)
	}
	switch {
	case fi.IsDir():
		return complete(p, filepath.Base(s.Path), filepath.Join(s.Path, deb.Image), or(s.ModulesDir, filepath.Join(s.Path, deb.Modules)))
	case strings.HasSuffix(s.Path, ".deb"):
		return s.unpack(p, s.Path)
	}
	version := strings.TrimPrefix(filepath.Base(s.Path), "vmlinuz-")
	dir := or(s.ModulesDir, filepath.Join(or(s.Lib, "/lib/modules"), version))
	if s.ModulesDir != "" {
		version = filepath.Base(s.ModulesDir)
	}
	return complete(p, version, s.Path, dir)
}

// complete checks that both halves of a kernel are there and can be read: some
// distributions keep the image for root.
func complete(p platform, version, image, modules string) (Kernel, error) {
	f, err := os.Open(image)
	if err != nil {
		return Kernel{}, fmt.Errorf("%w: kernel image: %w", ErrNoKernel, err)
	}
	defer f.Close()
	if err := p.starts(f); err != nil {
		return Kernel{}, fmt.Errorf("%w: kernel image %s: %w", ErrNoKernel, image, err)
	}
	if _, err := os.Stat(filepath.Join(modules, "kernel")); err != nil {
		return Kernel{}, fmt.Errorf("%w: modules of kernel %s: %w", ErrNoKernel, version, err)
	}
	return Kernel{Version: version, Image: image, Modules: modules}, nil
}

// fits holds a version against the flavour.
func (s KernelSearch) fits(version string) bool {
	return s.Flavour == "" || strings.HasSuffix(version, "-"+s.Flavour) && !otherFlavour(version, s.Flavour)
}

// otherFlavour tells 6.1.0-56-cloud-amd64 from the flavour amd64.
func otherFlavour(version, flavour string) bool {
	rest := strings.TrimSuffix(version, "-"+flavour)
	last := rest[strings.LastIndexByte(rest, '-')+1:]
	return last == "" || last[0] < '0' || last[0] > '9'
}

func (s KernelSearch) unpacked(p platform) (Kernel, error) {
	for _, c := range s.Caches {
		names, _ := filepath.Glob(filepath.Join(c, "[^.]*", deb.Image)) // the pattern is sound
		if k, err := s.newest(p, names, func(n string) string { return filepath.Base(filepath.Dir(n)) },
			func(n, _ string) string { return filepath.Join(filepath.Dir(n), deb.Modules) }); err == nil {
			return k, nil
		}
	}
	return Kernel{}, fs.ErrNotExist
}

func (s KernelSearch) installed(p platform) (Kernel, error) {
	names, _ := filepath.Glob(filepath.Join(or(s.Boot, "/boot"), "vmlinuz-*"))
	return s.newest(p, names, func(n string) string { return strings.TrimPrefix(filepath.Base(n), "vmlinuz-") },
		func(_, v string) string { return filepath.Join(or(s.Lib, "/lib/modules"), v) })
}

func (s KernelSearch) packaged(p platform) (Kernel, error) {
	for _, c := range s.Caches {
		names, _ := filepath.Glob(filepath.Join(c, "linux-image-*_"+p.arch+".deb"))
		names = slices.DeleteFunc(names, func(n string) bool { return !s.fits(packageVersion(n)) })
		if len(names) > 0 {
			return s.unpack(p, slices.MaxFunc(names, byNumbers))
		}
	}
	return Kernel{}, fs.ErrNotExist
}

// packageVersion is the kernel's version in linux-image-VERSION_REVISION_ARCH.deb.
func packageVersion(file string) string {
	v, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(file), "linux-image-"), "_")
	return strings.TrimSuffix(v, "-unsigned")
}

func (s KernelSearch) unpack(p platform, file string) (Kernel, error) {
	dir := s.Caches[0]
	version, err := deb.UnpackKernel(file, dir)
	if err != nil {
		return Kernel{}, fmt.Errorf("%w: %w", ErrNoKernel, err)
	}
	dir = filepath.Join(dir, version)
	return complete(p, version, filepath.Join(dir, deb.Image), filepath.Join(dir, deb.Modules))
}

// newest returns the kernel with the highest version that is complete.
func (s KernelSearch) newest(p platform, images []string, version func(string) string, modules func(image, version string) string) (Kernel, error) {
	slices.SortFunc(images, func(a, b string) int { return byNumbers(b, a) })
	for _, n := range images {
		v := version(n)
		if !s.fits(v) {
			continue
		}
		if k, err := complete(p, v, n, modules(n, v)); err == nil {
			return k, nil
		}
	}
	return Kernel{}, fs.ErrNotExist
}

// byNumbers compares names with the numbers in them taken as numbers.
func byNumbers(a, b string) int {
	for a != "" && b != "" {
		na, ra := number(a)
		nb, rb := number(b)
		switch {
		case na >= 0 && nb >= 0 && na != nb:
			return na - nb
		case na >= 0 && nb >= 0:
			a, b = ra, rb
		case a[0] != b[0]:
			return int(a[0]) - int(b[0])
		default:
			a, b = a[1:], b[1:]
		}
	}
	return len(a) - len(b)
}

// number reads the number at the start of s, -1 for none.
func number(s string) (n int, rest string) {
	rest = strings.TrimLeft(s, "0123456789")
	n, err := strconv.Atoi(s[:len(s)-len(rest)])
	if err != nil {
		return -1, s
	}
	return n, rest
}
