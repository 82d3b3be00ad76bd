package provider

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// Note says which archive the dirty bitmaps of a machine count from.
type Note struct {
	Process string   `json:"process"` // of the machine, as [ProcessOf] tells
	Archive string   `json:"archive"` // "" while there is none
	Devices []string `json:"devices"` // disks that have a bitmap
	// Pending is the name of an archive that is being completed: bitmaps count
	// from Archive or from Pending, and nobody knows from which.
	Pending string `json:"pending,omitempty"`
}

// covers reports whether the note vouches for a bitmap that counts from archive
// newest, in this process.
//
// After a crash with a pending archive that is there, bitmaps count from it or
// from the one before: then they say too much, and never too little.
func (n Note) covers(process, newest, device string) bool {
	last := n.Archive
	if n.Pending != "" {
		last = n.Pending
	}
	return process != "" && n.Process == process && newest != "" && last == newest && slices.Contains(n.Devices, device)
}

// Notebook keeps one note for each machine, in a directory that is to be empty
// after a reboot. Nothing in it is needed: without a note everything is read.
type Notebook struct {
	dir string
}

// OpenNotebook opens the notebook of an origin below dir. Origin names what the
// platform has one bitmap for: the entry in its configuration of storages.
func OpenNotebook(dir, origin string) (*Notebook, error) {
	sum := sha256.Sum256([]byte(origin))
	n := &Notebook{dir: filepath.Join(dir, fmt.Sprintf("%x", sum[:8]))}
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		return nil, fmt.Errorf("notes about dirty bitmaps: %w", err)
	}
	return n, nil
}

func (n *Notebook) path(vmid int) string {
	return filepath.Join(n.dir, strconv.Itoa(vmid)+".json")
}

// Read returns the note about a machine; what cannot be read is no note, and the
// error says why if that is not what a first backup finds.
func (n *Notebook) Read(vmid int) (Note, error) {
	var note Note
	b, err := os.ReadFile(n.path(vmid))
	if errors.Is(err, fs.ErrNotExist) {
		return note, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &note)
	}
	if err != nil {
		return Note{}, fmt.Errorf("note about the dirty bitmaps of %d: %w", vmid, err)
	}
	return note, nil
}

// Write replaces the note. A crash of this program leaves the old one or the new
// one; after a crash of the machine there are no bitmaps.
func (n *Notebook) Write(vmid int, note Note) error {
	b, err := json.Marshal(note)
	if err != nil {
		return err
	}
	tmp := n.path(vmid) + ".new"
	if err = os.WriteFile(tmp, append(b, '\n'), 0o600); err == nil {
		err = os.Rename(tmp, n.path(vmid))
	}
	if err != nil {
		return fmt.Errorf("note about the dirty bitmaps of %d: %w", vmid, err)
	}
	return nil
}

// Remove forgets a machine.
func (n *Notebook) Remove(vmid int) error {
	if err := os.Remove(n.path(vmid)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("note about the dirty bitmaps of %d: %w", vmid, err)
	}
	return nil
}
