package dirstore

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Names of files and directories; see the package comment.
const (
	guestFile    = "guest.conf"
	firewallFile = "firewall.conf"
	logFile      = "backup.log"
	notesFile    = "notes"
	protectFile  = "protected"
	removedFile  = ".removed"
	previousFile = "previous-info"
	lockFile     = ".lock"
	tarFile      = "archive.tar"
	squashFile   = "archive.sqfs"
	diskSuffix   = ".qcow2"
	mergedSuffix = ".merged"
	failedSuffix = ".failed"
	partSuffix   = ".part"
	goneSuffix   = ".gone"
)

// What is kept is as private as the guests are.
const (
	fileMode fs.FileMode = 0o600
	dirMode  fs.FileMode = 0o700
)

// Archive implements [provider.Storage]. The name is that of the directory.
func (s *Store) Archive(g provider.Guest, start time.Time) provider.Archive {
	return archive(g, start.Unix())
}

func archive(g provider.Guest, start int64) provider.Archive {
	return provider.Archive{Name: fmt.Sprintf("%d/%s-%d", g.ID, g.Kind, start), Guest: g, Start: start}
}

// Parse implements [provider.Storage].
func (s *Store) Parse(name string) (provider.Archive, error) {
	id, rest, _ := strings.Cut(name, "/")
	n, err := strconv.Atoi(id)
	a, ok := parseDir(n, rest)
	if err != nil || !ok || a.Name != name {
		return provider.Archive{}, fmt.Errorf("%q names no backup: a name is like 100/qemu-1700000000", name)
	}
	return a, nil
}

// parseDir reads the name of a backup's directory in that of its guest.
func parseDir(id int, name string) (provider.Archive, bool) {
	kind, digits, ok := strings.Cut(name, "-")
	start, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || start < 0 || id < 1 || id > 999999999 || kind != string(provider.QEMU) && kind != string(provider.LXC) {
		return provider.Archive{}, false
	}
	a := archive(provider.Guest{Kind: provider.Kind(kind), ID: id}, start)
	return a, path.Base(a.Name) == name
}

// dirOf is where an archive is. Its parts are numbers and known words.
func dirOf(a provider.Archive) string { return archive(a.Guest, a.Start).Name }

// guestDir is where all of a guest is.
func guestDir(id int) string { return strconv.Itoa(id) }

// hidden is a directory of an archive that is not listed.
func hidden(a provider.Archive, suffix string) string {
	return path.Join(guestDir(a.Guest.ID), "."+path.Base(dirOf(a))+suffix)
}

var deviceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$`)

// diskFile is the name of a disk in its archive.
func diskFile(device string) (string, error) {
	if !deviceName.MatchString(device) {
		return "", fmt.Errorf("the name of disk %q cannot be that of a file", device)
	}
	return device + diskSuffix, nil
}

// guests lists the numbers of all guests.
func (s *Store) guests() ([]int, error) {
	list, err := s.fs.ReadDir(".")
	if err != nil {
		return nil, fmt.Errorf("list storage %s: %w", s.o.Name, err)
	}
	var ids []int
	for _, e := range list {
		id, err := strconv.Atoi(e.Name)
		if err == nil && id > 0 && e.IsDir() && guestDir(id) == e.Name {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// archives lists what there is of a guest number, from old to new.
func (s *Store) archives(id int) ([]provider.Archive, error) {
	list, err := s.fs.ReadDir(guestDir(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the backups of guest %d: %w", id, err)
	}
	var all []provider.Archive
	for _, e := range list {
		if a, ok := parseDir(id, e.Name); ok && e.IsDir() {
			all = append(all, a)
		}
	}
	slices.SortFunc(all, func(a, b provider.Archive) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.Guest.Kind, b.Guest.Kind))
	})
	return all, nil
}

// find returns ErrNotFound for an archive that is not there.
func (s *Store) find(a provider.Archive) error {
	info, err := s.fs.Lstat(dirOf(a))
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode.IsDir():
		return fmt.Errorf("backup %s: %w", a.Name, repo.ErrNotFound)
	case err != nil:
		return fmt.Errorf("look for backup %s: %w", a.Name, err)
	}
	removed, err := s.isRemoved(a)
	if err == nil && removed {
		err = fmt.Errorf("backup %s is removed: %w", a.Name, repo.ErrNotFound)
	}
	return err
}

// disks lists the devices of an archive, by name.
func (s *Store) disks(a provider.Archive) ([]string, error) {
	list, err := s.fs.ReadDir(dirOf(a))
	if err != nil {
		return nil, err
	}
	var all []string
	for _, e := range list {
		device, ok := strings.CutSuffix(e.Name, diskSuffix)
		if ok && e.IsRegular() && deviceName.MatchString(device) {
			all = append(all, device)
		}
	}
	return all, nil
}
