package libvirt

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/kernel/fileops"
)

// tpmDir is where libvirt keeps the state of a domain's emulated TPM.
func tpmDir(base, uuid, version string) string {
	name := "tpm2"
	if version == "1.2" {
		name = "tpm1.2"
	}
	return filepath.Join(base, uuid, name)
}

// tarTPM packs the state of a TPM: the regular files of its directory. nil when
// the domain never ran.
func tarTPM(base, uuid, version string) ([]byte, error) {
	dir := tpmDir(base, uuid, version)
	all, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range all {
		if !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".") { // locks, and what is being written
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) { // replaced just now
			continue
		}
		if err != nil {
			return nil, err
		}
		h := &tar.Header{Name: e.Name(), Mode: 0o600, Size: int64(len(data))}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if b.Len() > maxSmall {
		return nil, fmt.Errorf("%s holds %d bytes, more than any TPM has", dir, b.Len())
	}
	return b.Bytes(), nil
}

// untarTPM makes the directory of a TPM from its archive. It must not be there.
// libvirt gives it to the emulator's user at the next start.
func untarTPM(text []byte, base, uuid, version string) (err error) {
	dir := tpmDir(base, uuid, version)
	if err := os.MkdirAll(filepath.Dir(dir), 0o711); err != nil { //nolint:gosec // as libvirt makes it
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close(), fileops.SyncDir(dir)) }()
	r := tar.NewReader(bytes.NewReader(text))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg || filepath.Base(h.Name) != h.Name {
			return fmt.Errorf("%q does not belong to a TPM", h.Name)
		}
		if err := writeIn(root, h.Name, r); err != nil {
			return err
		}
	}
}

func writeIn(root *os.Root, name string, r io.Reader) (err error) {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.Copy(f, r); err != nil {
		return err
	}
	return f.Sync()
}
