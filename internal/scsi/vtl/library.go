package vtl

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/scsi/target"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/changer"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/drive"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// Names of files.
const (
	configFile    = "library.json"
	stateFile     = "state.json"
	lockFile      = "lock"
	cartridgesDir = "cartridges"
	unfinished    = ".new-"
)

const maxFile = 16 << 20 // bytes of library.json and of state.json

// Clock is the time that a library lives in.
type Clock interface {
	Now() time.Time
	Sleep(d time.Duration)
}

// Options say how a library is opened. The zero value is a good one.
type Options struct {
	Clock Clock // nil: the real one
	// Wrap decorates a unit before it is handed out, as package fault does; it may
	// be nil.
	Wrap func(u Unit) target.Unit
}

// Library is an open library. It is safe for concurrent use.
type Library struct {
	cfg     Config
	disk    cartridge.Disk
	close   func() error // of the disk
	lock    vfs.Unlocker
	drives  []*drive.Drive
	changer *changer.Changer // nil: there is none
	units   []Unit

	mu     sync.Mutex     // guards what follows, and who adds and removes cartridges
	loaded map[int]string // by drive, where there is no changer
	closed bool
}

type state struct {
	Places []changer.Place `json:"places"`
}

// Create makes a library in a directory that exists and is empty.
func Create(dir string, cfg Config) error {
	d, err := vfs.OpenOS(dir)
	if err != nil {
		return err
	}
	return errors.Join(CreateOn(d, cfg), d.Close())
}

// CreateOn makes a library on a file system.
func CreateOn(d cartridge.Disk, cfg Config) error {
	if err := cfg.check(); err != nil {
		return err
	}
	names, err := d.ReadDir(".")
	if err != nil {
		return err
	}
	for _, e := range names {
		if e.Name == configFile {
			return errors.New("there is a tape library in the directory already")
		}
	}
	// The units say what they cannot be.
	l := &Library{cfg: cfg, disk: d}
	if err := errors.Join(l.makeDrives(Options{}), l.makeChanger(Options{}, nil, nil), d.Mkdir(cartridgesDir, 0o750)); err != nil {
		return err
	}
	f, err := d.Create(lockFile, 0o640)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := l.save(nil); err != nil {
		return err
	}
	b, err := json.MarshalIndent(cfg, "", "  ")
	if err != nil {
		return err
	}
	return cartridge.Replace(d, configFile, append(b, '\n')) // last: with it, it is a library
}

// Open opens the library in a directory.
func Open(dir string, o Options) (*Library, error) {
	d, err := vfs.OpenOS(dir)
	if err != nil {
		return nil, err
	}
	l, err := OpenOn(d, o)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("tape library %s: %w", dir, err), d.Close())
	}
	l.close = d.Close
	return l, nil
}

// OpenOn opens the library on a file system.
func OpenOn(d cartridge.Disk, o Options) (_ *Library, err error) {
	b, err := readFile(d, configFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no tape library: %w", err)
	} else if err != nil {
		return nil, err
	}
	l := &Library{disk: d, loaded: map[int]string{}}
	if l.cfg, err = parseConfig(b); err != nil {
		return nil, fmt.Errorf("%s: %w", configFile, err)
	}
	if l.lock, err = d.LockRange(lockFile, 0, 0, vfs.Exclusive); err != nil {
		return nil, fmt.Errorf("another process has the tape library open: use it through its sockets: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.closeDrives(), l.lock.Unlock())
		}
	}()
	if err := l.sweep(); err != nil {
		return nil, err
	}
	var st state
	if b, err = readFile(d, stateFile); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &st); err != nil {
		return nil, fmt.Errorf("%s: %w", stateFile, err)
	}
	if err := l.makeDrives(o); err != nil {
		return nil, err
	}
	places, media := l.fill(st.Places)
	if err := l.makeChanger(o, places, media); err != nil {
		return nil, err
	}
	l.listUnits(o)
	return l, nil
}

// sweep removes cartridges that were being made when the power went.
func (l *Library) sweep() error {
	names, err := l.disk.ReadDir(cartridgesDir)
	if err != nil {
		return err
	}
	for _, e := range names {
		if strings.HasPrefix(e.Name, unfinished) {
			if err := l.removeTree(cartridgesDir + "/" + e.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeTree removes a cartridge's directory, which has no others in it.
func (l *Library) removeTree(dir string) error {
	names, err := l.disk.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range names {
		if err := l.disk.Remove(dir + "/" + e.Name); err != nil {
			return err
		}
	}
	return l.disk.Remove(dir)
}

func readFile(d cartridge.Disk, name string) ([]byte, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", name, maxFile)
	}
	return b, err
}

// Config is what the library is made of.
func (l *Library) Config() Config { return l.cfg }

// Drive is a drive, from 0, and Changer the changer or nil: for power cuts, alerts
// and looking.
func (l *Library) Drive(n int) *drive.Drive { return l.drives[n] }

// Changer is the changer, or nil.
func (l *Library) Changer() *changer.Changer { return l.changer }

// Close writes what is in the drives' buffers and lets others open the library.
// Nobody may use the units any more.
func (l *Library) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	err := errors.Join(l.closeDrives(), l.lock.Unlock())
	if l.close != nil {
		err = errors.Join(err, l.close())
	}
	return err
}

func (l *Library) closeDrives() (err error) {
	for _, d := range l.drives {
		err = errors.Join(err, d.Close())
	}
	return err
}

// serial is one for a new cartridge.
func serial() string {
	b := make([]byte, 5)
	_, _ = rand.Read(b) // never fails
	return strings.ToUpper(hex.EncodeToString(b))
}

// places is what is where.
func (l *Library) places() []changer.Place {
	if l.changer != nil {
		return l.changer.Places()
	}
	var list []changer.Place
	for n, name := range l.loaded {
		list = append(list, changer.Place{Address: changer.DriveAddress(n), Name: name})
	}
	slices.SortFunc(list, func(a, b changer.Place) int { return int(a.Address) - int(b.Address) })
	return list
}
