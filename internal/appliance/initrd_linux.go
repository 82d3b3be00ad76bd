package appliance

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/appliance/guest"
	"github.com/holdfast-backup/holdfast/internal/appliance/initramfs"
	"github.com/holdfast-backup/holdfast/internal/appliance/kmod"
)

// bootModules drive the machine's own devices. A kernel that has them built in
// does not miss them.
var bootModules = []string{"virtio_pci", "virtio_console", "virtio_rng"}

// initrd is a built file system without a name, and what VM.Load needs to know.
type initrd struct {
	file  *os.File
	size  int64
	later map[string][]string // module to its closure's files in the guest
}

// buildInitrd packs the guest's file system into an unlinked file.
func (c Config) buildInitrd() (_ *initrd, err error) {
	b := initramfs.New()
	tree, err := kmod.Open(c.Kernel.Modules)
	if err != nil {
		return nil, err
	}
	boot := append([]string(nil), bootModules...)
	if c.call != nil {
		boot = append(boot, "vmw_vsock_virtio_transport")
	}
	if len(c.Drives) > 0 {
		boot = append(boot, "virtio_blk")
	}
	list, err := addModules(b, tree, c.Kernel.Version, append(boot, c.Modules...))
	if err != nil {
		return nil, err
	}
	later := map[string][]string{}
	for _, name := range c.Later {
		if later[name], err = addModules(b, tree, c.Kernel.Version, []string{name}); err != nil {
			return nil, err
		}
	}
	if err := b.Add(guest.ModuleList, []byte(strings.Join(list, "\n")), 0o644); err != nil {
		return nil, err
	}
	index, err := json.Marshal(later)
	if err != nil {
		return nil, err
	}
	if err := b.Add(guest.LaterList, index, 0o644); err != nil {
		return nil, err
	}
	if c.call != nil {
		if err := b.Add(guest.VsockFile, []byte(c.call.token), 0o400); err != nil {
			return nil, err
		}
	}
	if c.Watchdog > 0 {
		if err := b.Add(guest.WatchdogFile, []byte(c.Watchdog.String()), 0o644); err != nil {
			return nil, err
		}
	}
	if err := c.addFiles(b); err != nil {
		return nil, err
	}
	f, err := unnamed()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	size, err := c.writeTo(f, b)
	if err != nil {
		return nil, err
	}
	return &initrd{file: f, size: size, later: later}, nil
}

func addModules(b *initramfs.Builder, tree *kmod.Tree, version string, names []string) (files []string, err error) {
	order, err := tree.Closure(names...)
	if err != nil {
		return nil, fmt.Errorf("appliance: %w", err)
	}
	for _, m := range order {
		// Plain bytes under a plain name: the guest's kernel need not know the compression.
		dir := path.Dir(m.Path)
		name := path.Join("/lib/modules", version, dir, m.Name+".ko")
		if err := b.Add(name, m.Data, 0o644); err != nil {
			return nil, err
		}
		files = append(files, name)
	}
	return files, nil
}

func (c Config) writeTo(f *os.File, b *initramfs.Builder) (size int64, err error) {
	if !c.Compress {
		return b.WriteTo(f)
	}
	z, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
	if err != nil {
		return 0, err
	}
	if _, err := b.WriteTo(z); err != nil {
		return 0, err
	}
	if err := z.Close(); err != nil {
		return 0, err
	}
	return f.Seek(0, io.SeekCurrent)
}

func (c Config) addInit(b *initramfs.Builder) error {
	if c.InitData != nil {
		return b.Add(guest.Init, c.InitData, 0o755)
	}
	return b.AddFile(guest.Init, c.Init)
}

// WriteInitrd writes the guest's file system, as a machine gets it.
func (c Config) WriteInitrd(w io.Writer) (int64, error) {
	c, err := c.withDefaults()
	if err != nil {
		return 0, err
	}
	rd, err := c.buildInitrd()
	if err != nil {
		return 0, err
	}
	defer rd.file.Close()
	return io.Copy(w, io.NewSectionReader(rd.file, 0, rd.size))
}

func (c Config) addFiles(b *initramfs.Builder) error {
	if err := c.addInit(b); err != nil {
		return err
	}
	for _, t := range c.Tools {
		if err := b.AddTool(t); err != nil {
			return err
		}
	}
	for _, f := range c.Files {
		var err error
		if f.From != "" {
			err = b.AddFile(f.Name, f.From)
		} else {
			mode := os.FileMode(f.Mode)
			if mode == 0 {
				mode = 0o644
			}
			err = b.Add(f.Name, f.Content, mode)
		}
		if err != nil {
			return err
		}
	}
	for name, text := range map[string]string{
		"/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
		"/etc/group":  "root:x:0:\nnogroup:x:65534:\n",
		"/etc/hosts":  "127.0.0.1 localhost appliance\n::1 localhost\n",
	} {
		if !b.Has(name) {
			if err := b.Add(name, []byte(text), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}
