package libvirt

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	lv "github.com/digitalocean/go-libvirt"

	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/guest/libvirt/domxml"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// Names of the small files beside the disks, as [guest.Config] has them.
const (
	descriptionName = "guest.json"
	definitionName  = "domain.xml"
	nvramName       = "nvram.fd"
	loaderName      = "loader.fd"
	kernelName      = "kernel"
	initrdName      = "initrd"
	tpmName         = "tpm.tar"
)

const (
	imageExt, blobExt  = ".img.fidx", ".blob"
	descriptionKind    = "libvirt"
	descriptionVersion = 1
)

// maxSmall is the most bytes of a small file in a snapshot; what is longer is
// stored as an image.
const maxSmall = 16 << 20

// Description says what the archives of a snapshot are. It is guest.json.
type Description struct {
	Version    int               `json:"version"`
	Kind       string            `json:"kind"` // "libvirt"
	Name       string            `json:"name"`
	UUID       string            `json:"uuid"`
	Running    bool              `json:"running"`
	Definition string            `json:"definition"` // archive of the domain's definition
	Disks      []DiskDescription `json:"disks"`
	// Files are archives by what they are: "nvram", "loader", "kernel",
	// "initrd", "tpm".
	Files map[string]string `json:"files,omitempty"`
}

// DiskDescription is a disk of a [Description].
type DiskDescription struct {
	Target  string `json:"target"`
	Archive string `json:"archive"`
	Kind    string `json:"kind"` // of its source, as libvirt says it
	Path    string `json:"path,omitempty"`
	Format  string `json:"format"`
	Size    int64  `json:"size"` // bytes
}

// side is what is stored beside the disks.
type side struct {
	configs []guest.Config
	disks   []guest.Disk // files that are too large to be small ones
	files   []io.Closer
}

// side collects everything but the disks. After an error files must be closed
// too.
func (g *Guest) side(def *domxml.Domain, disks []guest.Disk, want []wanted, isRunning bool) (side, error) {
	var s side
	next, err := g.c.l.DomainGetXMLDesc(g.dom, lv.DomainXMLInactive|lv.DomainXMLSecure)
	if err != nil {
		return s, fmt.Errorf("definition of domain %s: %w", g.dom.Name, err)
	}
	d := Description{
		Version: descriptionVersion, Kind: descriptionKind, Name: g.dom.Name, UUID: g.UUID(), Running: isRunning,
		Definition: definitionName + blobExt, Files: map[string]string{},
	}
	for i, w := range want {
		d.Disks = append(d.Disks, DiskDescription{w.Target, w.name() + imageExt, w.Kind, w.Path, w.Format, disks[i].Image.Size()})
	}
	fw := def.Firmware()
	for _, f := range []struct{ kind, name, path string }{
		{"nvram", nvramName, fw.NVRAM},
		{"loader", loaderName, fw.Loader},
		{"kernel", kernelName, fw.Kernel},
		{"initrd", initrdName, fw.Initrd},
	} {
		if f.path == "" {
			continue
		}
		archive, err := s.add(f.name, f.path)
		switch {
		case errors.Is(err, fs.ErrNotExist) && f.kind == "nvram": // the domain never ran
			continue
		case err != nil:
			return s, fmt.Errorf("domain %s: its %s: %w", g.dom.Name, f.kind, err)
		}
		d.Files[f.kind] = archive
	}
	if v := def.TPMVersion(); v != "" {
		state, err := tarTPM(g.opts.SwtpmDir, g.UUID(), v)
		if err != nil {
			return s, fmt.Errorf("domain %s: state of its TPM: %w", g.dom.Name, err)
		}
		if state != nil {
			s.configs = append(s.configs, guest.Config{Name: tpmName, Data: state})
			d.Files["tpm"] = tpmName + blobExt
		}
	}
	text, err := json.MarshalIndent(d, "", "\t")
	if err != nil {
		return s, err
	}
	s.configs = append(s.configs, guest.Config{Name: descriptionName, Data: text}, guest.Config{Name: definitionName, Data: []byte(next)})
	return s, nil
}

// add adds a file and returns the archive that it will be.
func (s *side) add(name, path string) (archive string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if info.Size() <= maxSmall && info.Mode().IsRegular() {
		data, err := os.ReadFile(filepath.Clean(path))
		if err == nil {
			s.configs = append(s.configs, guest.Config{Name: name, Data: data})
		}
		return name + blobExt, err
	}
	img, err := image.OpenFile(path, image.FileOptions{Sequential: true})
	if err != nil {
		return "", err
	}
	s.files = append(s.files, img)
	s.disks = append(s.disks, guest.Disk{Name: name, Image: img, Mode: guest.None})
	return name + imageExt, nil
}

// ParseDescription reads guest.json.
func ParseDescription(text []byte) (Description, error) {
	var d Description
	if err := json.Unmarshal(text, &d); err != nil {
		return d, fmt.Errorf("%s: %w", descriptionName, err)
	}
	if d.Kind != descriptionKind || d.Version != descriptionVersion {
		return d, fmt.Errorf("%s describes a guest of kind %.20q, version %d: this program restores domains of kind %q, version %d",
			descriptionName, d.Kind, d.Version, descriptionKind, descriptionVersion)
	}
	return d, nil
}
