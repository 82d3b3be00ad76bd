package stores

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/datastore/sweep"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

const sectionType = "datastore"

// mountDir is where PBS mounts removable disks.
const mountDir = "/mnt/datastore"

// Config is what the file says of a datastore.
type Config struct {
	Name, Path  string
	Comment     string
	GCSchedule  string
	VerifyNew   bool
	Maintenance Maintenance

	section *sectionconfig.Section
}

// Maintenance is why a datastore cannot be used.
type Maintenance struct {
	Type    string // "" for none
	Message string
}

func configOf(sec *sectionconfig.Section) Config {
	get := func(key string) string { v, _ := sec.Get(key); return v }
	c := Config{Name: sec.ID, Path: get("path"), Comment: get("comment"), GCSchedule: get("gc-schedule"), section: sec}
	// What cannot be read is not switched on.
	c.VerifyNew, _ = sec.Bool("verify-new", false)
	if text := get("maintenance-mode"); text != "" {
		c.Maintenance = parseMaintenance(text)
	}
	return c
}

// parseMaintenance reads a mode. One that cannot be read is offline: somebody wanted
// the store to be left alone.
func parseMaintenance(text string) Maintenance {
	p, err := sectionconfig.ParseProperties(text, "type")
	if err != nil {
		return Maintenance{"offline", text}
	}
	kind, _ := p.Get("type")
	message, _ := p.Get("message")
	if kind == "" {
		kind = "offline"
	}
	return Maintenance{kind, message}
}

// Section is the configuration as it is in the file; not to be changed.
func (c Config) Section() *sectionconfig.Section { return c.section }

// allows returns why an operation cannot be done now.
func (c Config) allows(op Operation) error {
	m := c.Maintenance
	if m.Type == "" || op == Lookup && m.Type != "delete" || op == Read && m.Type == "read-only" {
		return nil
	}
	text := fmt.Sprintf("datastore '%s' is in %s maintenance mode", c.Name, m.Type)
	if m.Message != "" {
		text += ": " + m.Message
	}
	return errors.New(text)
}

// Removable reports whether the store is on a disk that comes and goes.
func (c Config) Removable() bool {
	_, ok := c.section.Get("backing-device")
	return ok
}

// location is the directory where the store is.
func (c Config) location() (string, error) {
	path := c.Path
	if c.Removable() {
		path = filepath.Join(mountDir, c.Name)
		if _, err := os.Stat(filepath.Join(path, names.ChunkDir)); errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("its disk is not mounted: %w", repo.ErrNotFound)
		}
	}
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("its path %q is not absolute", path)
	}
	return filepath.Clean(path), nil
}

// MountStatus is mounted, notmounted or nonremovable.
func (c Config) MountStatus() string {
	if !c.Removable() {
		return "nonremovable"
	}
	if _, err := c.location(); err != nil {
		return "notmounted"
	}
	return "mounted"
}

func (c Config) tuning(key string) (string, error) {
	text, ok := c.section.Get("tuning")
	if !ok {
		return "", nil
	}
	p, err := sectionconfig.ParseProperties(text, "")
	if err != nil {
		return "", fmt.Errorf("tuning %q: %w", text, err)
	}
	v, _ := p.Get(key)
	return v, nil
}

func (c Config) syncLevel() (datastore.SyncLevel, error) {
	v, err := c.tuning("sync-level")
	if err != nil || v == "" {
		return datastore.SyncFilesystem, err
	}
	return datastore.ParseSyncLevel(v)
}

// CheckNested refuses a path that lies in a store of the list, or has one in it:
// the collection of one would take the chunks of the other for garbage.
func CheckNested(list []Config, path string) error {
	if path == "" {
		return nil
	}
	path = filepath.Clean(path)
	for _, c := range list {
		if c.Path == "" {
			continue
		}
		other := filepath.Clean(c.Path)
		if path == other {
			return fmt.Errorf("%s is the datastore '%s' already", path, c.Name)
		}
		if within(path, other) || within(other, path) {
			return fmt.Errorf("%s and the datastore '%s' at %s lie in one another", path, c.Name, other)
		}
	}
	return nil
}

func within(path, above string) bool {
	return strings.HasPrefix(path, strings.TrimSuffix(above, "/")+"/")
}

// GCCutoff is how long chunks that nobody needs stay.
func (c Config) GCCutoff() (time.Duration, error) {
	v, err := c.tuning("gc-atime-cutoff")
	if err != nil || v == "" {
		return sweep.DefaultCutoff, err
	}
	minutes, err := strconv.Atoi(v)
	if err != nil || minutes < 1 || minutes > 2880 {
		return 0, fmt.Errorf("gc-atime-cutoff %q: want 1 to 2880 minutes", v)
	}
	return time.Duration(minutes) * time.Minute, nil
}

// AtimeCheck says whether a collection first makes sure that access times are kept.
func (c Config) AtimeCheck() bool {
	v, err := c.tuning("gc-atime-safety-check")
	if err != nil || v == "" {
		return true
	}
	on, err := sectionconfig.ParseBool(v)
	return err != nil || on
}
