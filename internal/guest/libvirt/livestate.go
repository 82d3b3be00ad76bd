package libvirt

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/kernel/fileops"
)

// ErrLive is wrapped when there is no live restore to go on with.
var ErrLive = errors.New("no live restore is under way")

// LiveState is what is remembered of a live restore until it is done: the file
// UUID.json in the state directory.
type LiveState struct {
	Version    int        `json:"version"`
	Name       string     `json:"name"`
	UUID       string     `json:"uuid"`
	Repository string     `json:"repository"` // as the caller names it
	Snapshot   string     `json:"snapshot"`   // with its namespace
	Phase      string     `json:"phase"`      // "preparing": the guest never ran; "running"
	Socket     string     `json:"socket"`
	Patience   int64      `json:"patience"` // seconds
	Disks      []LiveDisk `json:"disks"`
	Files      []string   `json:"files"`      // all that the restore made
	Definition string     `json:"definition"` // of the domain, which is defined when all is there
}

// LiveDisk is a disk of a [LiveState].
type LiveDisk struct {
	Target  string `json:"target"`
	Archive string `json:"archive"`
	Path    string `json:"path"`
	Size    int64  `json:"size"`
}

const (
	liveVersion = 1
	preparing   = "preparing"
	runningLive = "running"
)

func (s LiveState) file(dir string) string { return filepath.Join(dir, s.UUID+".json") }

// save makes the state durable.
func (s LiveState) save(dir string) error {
	text, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the directory for live restores: %w", err)
	}
	f, err := fileops.Replace(s.file(dir))
	if err != nil {
		return err
	}
	defer f.Drop()
	if _, err := f.Write(text); err != nil {
		return err
	}
	return f.Finish()
}

func loadLive(path string) (LiveState, error) {
	var s LiveState
	text, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	if _, ok := parseUUID(s.UUID); s.Version != liveVersion || !ok {
		return s, fmt.Errorf("%s: not the state of a live restore that this program knows", path)
	}
	return s, nil
}

// LiveRestores lists the live restores that are not done.
func LiveRestores(dir string) ([]LiveState, error) {
	all, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []LiveState
	for _, e := range all {
		if !strings.HasSuffix(e.Name(), ".json") || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		s, err := loadLive(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) { // done just now
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// FindLive finds a live restore by the domain's name or UUID.
func FindLive(dir, name string) (LiveState, error) {
	all, err := LiveRestores(dir)
	if err != nil {
		return LiveState{}, err
	}
	for _, s := range all {
		if s.Name == name || s.UUID == name {
			return s, nil
		}
	}
	return LiveState{}, fmt.Errorf("%w for domain %s", ErrLive, name)
}
