package dirdrive

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/kernel/fileops"
)

const (
	statusFile = "drive-status.json"
	lockFile   = ".drive.lck"
)

// dir is the directory.
type dir string

// index is tape-LABEL.json.
type index struct {
	Files uint64 `json:"files"`
}

// loaded is what is in the drive.
type loaded struct {
	Name string `json:"name"`
	Pos  uint64 `json:"pos"`
}

type status struct {
	Tape *loaded `json:"current_tape"`
}

func (d dir) path(name string) string       { return filepath.Join(string(d), name) }
func (d dir) indexPath(label string) string { return d.path("tape-" + label + ".json") }

func (d dir) filePath(label string, pos uint64) string {
	return d.path(fmt.Sprintf("tapefile-%d-%s.json", pos, label))
}

// goodLabel keeps labels from being paths.
func goodLabel(label string) error {
	if len(label) < 2 || len(label) > 32 {
		return fmt.Errorf("the label %q of a tape has 2 to 32 characters", label)
	}
	for i, c := range []byte(label) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_':
		case i > 0 && (c == '.' || c == '-'):
		default:
			return fmt.Errorf("the label %q of a tape has other characters than letters, digits, _, . and -", label)
		}
	}
	return nil
}

// index reads the index of a tape; fs.ErrNotExist if there is no such tape.
func (d dir) index(label string) (index, error) {
	var x index
	err := load(d.indexPath(label), &x)
	return x, err
}

func (d dir) setIndex(label string, x index) error { return store(d.indexPath(label), x) }

// status reads what is in the drive. Before the first use it is nothing.
func (d dir) status() (status, error) {
	var s status
	err := load(d.path(statusFile), &s)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil && s.Tape != nil {
		err = goodLabel(s.Tape.Name)
	}
	return s, err
}

func (d dir) setStatus(s status) error { return store(d.path(statusFile), s) }

// labels are those of all tapes, sorted.
func (d dir) labels() ([]string, error) {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, err
	}
	var labels []string
	for _, e := range entries {
		name, isTape := strings.CutPrefix(e.Name(), "tape-")
		label, isJSON := strings.CutSuffix(name, ".json")
		if isTape && isJSON && e.Type().IsRegular() && goodLabel(label) == nil {
			labels = append(labels, label)
		}
	}
	slices.Sort(labels)
	return labels, nil
}

// maxJSON is far above what such a file holds, in bytes.
const maxJSON = 4096

// load reads a small JSON file. An empty one is what a crash of PBS leaves, and
// says nothing.
func load(path string, into any) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() > maxJSON {
		return fmt.Errorf("%s: %d bytes are too many", path, info.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil || len(b) == 0 {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// store replaces a small JSON file, durably.
func store(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	f, err := fileops.Replace(path)
	if err != nil {
		return err
	}
	defer f.Drop()
	if _, err := f.Write(b); err != nil {
		return err
	}
	if err := share(f.File); err != nil {
		return err
	}
	return f.Finish()
}
