package cli

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image/overlay"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

const overlaySuffix = ".overlay"

// stateDir is a directory for what lasts longer than a process.
func (a *app) stateDir(name string) (string, error) {
	if base := a.getenv("XDG_STATE_HOME"); base != "" {
		return filepath.Join(base, "holdfast", name), nil
	}
	if os.Geteuid() == 0 {
		return filepath.Join("/var/lib/holdfast", name), nil
	}
	home := a.getenv("HOME")
	if home == "" {
		return "", errors.New("there is no state directory: neither XDG_STATE_HOME nor HOME is set")
	}
	return filepath.Join(home, ".local", "state", "holdfast", name), nil
}

// overlayDir is where overlays lie that have no name of the user's.
func (a *app) overlayDir() (string, error) {
	dir, err := a.stateDir("overlays")
	if err != nil {
		return "", hint(err, "name a file with --overlay")
	}
	return dir, nil
}

// overlayName is what the overlay of an image is called in that directory: a
// name that people can read, and a sum of everything that identifies the image.
func overlayName(repository string, s names.Snapshot, name names.Archive) string {
	sum := sha256.Sum256([]byte(repository + "\x00" + show(s) + "\x00" + string(name)))
	return fmt.Sprintf("%s-%.80s-%s-%.80s-%x%s", s.Type, s.ID, names.FormatTime(s.Time), name.ClientName(), sum[:4], overlaySuffix)
}

// overlayPath is that of an image of a snapshot; its directory is made.
func (a *app) overlayPath(repository string, s names.Snapshot, name names.Archive) (string, error) {
	dir, err := a.overlayDir()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the directory of overlays: %w", err)
	}
	return filepath.Join(dir, overlayName(repository, s, name)), nil
}

// openOverlay puts an overlay above a disk: the one that is there, or a new
// one.
func (a *app) openOverlay(s repo.Snapshot, f manifest.File, d *disk, path string) error {
	where, err := a.identity()
	if err != nil {
		return err
	}
	if path == "" {
		if path, err = a.overlayPath(where, s.Name(), d.name); err != nil {
			return err
		}
	}
	m := overlay.Meta{
		Repository: where, Snapshot: s.Name(), Archive: d.name, Size: d.base.Size(), IndexSum: f.Csum, Created: a.Now().Unix(),
	}
	d.overlay, err = overlay.Open(path, d.base, m, overlay.Options{})
	if errors.Is(err, fs.ErrNotExist) {
		d.made = true
		d.overlay, err = overlay.Create(path, d.base, m, overlay.Options{})
	}
	return explainOverlay(err, path)
}

// explainOverlay adds what to do.
func explainOverlay(err error, path string) error {
	switch {
	case errors.Is(err, overlay.ErrInUse):
		return hint(mark(repo.ErrLocked, "%v", err), "'holdfast map' lists what is mapped; unmap it or stop its server first, or use another overlay with --overlay FILE")
	case errors.Is(err, overlay.ErrOtherBase):
		return hint(err, "'holdfast overlay show %s' says over which; name another file, or discard this one with 'holdfast overlay discard'", path)
	case errors.Is(err, overlay.ErrFormat):
		return hint(err, "check the path: --writable makes overlays, and 'holdfast debug inspect %s' shows what the file is", path)
	case errors.Is(err, fs.ErrNotExist):
		return hint(err, "check the path; 'holdfast overlay list' lists those without a name of their own")
	}
	return err
}
