package provider

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/throttle"
)

// Machine is a machine that stands still for the reader, as the platform hands
// it over.
type Machine struct {
	Configs
	Disks map[string]Disk // by device
	Rate  int64           // bytes a second of all disks together; 0: no limit
}

// Disk is how one disk is read: through NBD if NBDPath is set, else from Path.
type Disk struct {
	Size int64 // bytes
	Mode Mode

	NBDPath    string // unix socket; the export has the name of the device
	BitmapName string // "" without bitmap

	Path    string   // a file or block device
	Regions []Region // what is to be read of Path; nil: all
	Punch   bool     // what is stored may be punched out of Path
}

// Region is a range of a disk: offset and length in bytes.
type Region [2]int64

// Bitmap says what is asked for a disk's dirty bitmap.
type Bitmap string

// What can be asked for.
const (
	BitmapNone Bitmap = "none"
	BitmapNew  Bitmap = "new"
	BitmapUse  Bitmap = "use"
)

// QueryIncremental decides which bitmaps the platform is asked for. It fails only
// for a wrong call: in doubt everything is read.
func (s *Service) QueryIncremental(ctx context.Context, log Log, vmid int, sizes map[string]int64) (map[string]Bitmap, error) {
	if err := (Guest{QEMU, vmid}).check(); err != nil {
		return nil, err
	}
	answer := make(map[string]Bitmap, len(sizes))
	for d := range sizes {
		answer[d] = BitmapNew
		if s.opts.Full || s.opts.Notes == nil {
			answer[d] = BitmapNone
		}
	}
	if s.opts.Full || s.opts.Notes == nil {
		return answer, nil
	}
	base, usable, why := s.base(ctx, vmid, sizes)
	for d, ok := range usable {
		if ok {
			answer[d] = BitmapUse
		}
	}
	if why != "" {
		log.printf(Info, "everything is read: %s", why)
	} else {
		log.printf(Info, "incremental to %s if its dirty bitmaps are still there", base.Name)
	}
	return answer, nil
}

// base returns the archive that the next backup may build on, with its disks, or
// why there is none.
func (s *Service) base(ctx context.Context, vmid int, sizes map[string]int64) (base Archive, usable map[string]bool, why string) {
	process, err := ProcessOf(s.opts.PIDFile(vmid))
	if err != nil {
		return base, nil, err.Error()
	}
	return s.baseIn(ctx, process, vmid, sizes)
}

func (s *Service) baseIn(ctx context.Context, process string, vmid int, sizes map[string]int64) (base Archive, usable map[string]bool, why string) {
	note, err := s.opts.Notes.Read(vmid)
	if err != nil {
		return base, nil, err.Error()
	}
	if note.Archive == "" && note.Pending == "" {
		return base, nil, "this is the first backup of it here, since the machine was started"
	}
	if process == "" || note.Process != process {
		return base, nil, "the machine was started anew since the last backup"
	}
	g := Guest{QEMU, vmid}
	newest, err := s.newest(ctx, g)
	if err != nil {
		return base, nil, err.Error()
	}
	wanted := map[string]int64{}
	for d, size := range sizes {
		if note.covers(process, newest.Name, d) {
			wanted[d] = size
		}
	}
	if len(wanted) == 0 {
		return base, nil, "the newest backup is not the last one that was made here"
	}
	usable, err = s.store.Reusable(ctx, newest, wanted)
	if err != nil {
		return base, nil, err.Error()
	}
	for _, ok := range usable {
		if ok {
			return newest, usable, ""
		}
	}
	return base, nil, newest.Name + " cannot be built on"
}

// newest returns the newest archive of a guest, a zero one if there is none.
func (s *Service) newest(ctx context.Context, g Guest) (Archive, error) {
	list, err := s.store.List(ctx, &g)
	if err != nil || len(list) == 0 {
		return Archive{}, err
	}
	return list[len(list)-1].Archive, nil
}

// BackupVM stores a machine. When it returns nil the archive is complete.
func (s *Service) BackupVM(ctx context.Context, log Log, vmid int, name string, m Machine) error {
	t, err := s.resume(Guest{QEMU, vmid}, name)
	if err != nil {
		return err
	}
	if len(m.Configs.Guest) == 0 {
		return usagef("there is no guest configuration")
	}
	return s.run(ctx, t, func(ctx context.Context) (Result, error) { return s.backupVM(ctx, log, t.archive, m) })
}

func (s *Service) backupVM(ctx context.Context, log Log, a Archive, m Machine) (_ Result, err error) {
	disks, err := openDisks(ctx, m, throttle.New(m.Rate))
	if err != nil {
		return Result{}, err
	}
	defer disks.close()
	vm := VM{Configs: m.Configs, Volumes: disks.volumes}
	p, err := s.chain(ctx, a, disks, m)
	if err != nil {
		return Result{}, err
	}
	vm.Base = p.base
	vm.Seal = func(context.Context) error { return p.seal() }
	result, err := s.store.BackupVM(ctx, a, vm)
	if err != nil {
		return Result{}, errors.Join(err, p.failed(context.WithoutCancel(ctx)))
	}
	if nerr := p.done(); nerr != nil {
		log.printf(Warn, "the next backup will read everything: %v", nerr)
	}
	log.printf(Info, "%s: %s read, %s new in the storage", a.Name, mib(result.Read), mib(result.Stored))
	return result, nil
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// chain keeps the note about a machine while it is backed up.
type chain struct {
	s       *Service
	archive Archive
	base    Archive // zero if no bitmap is used
	old     Note
	note    Note // while the archive is completed
	sealed  bool
}

// chain checks that what the bitmaps count from is the newest archive.
func (s *Service) chain(ctx context.Context, a Archive, disks *openedDisks, m Machine) (*chain, error) {
	c := &chain{s: s, archive: a}
	reused := map[string]int64{}
	for d, disk := range m.Disks {
		if disk.Mode != ModeNone {
			c.note.Devices = append(c.note.Devices, d)
		}
		if disk.Mode == ModeReuse {
			reused[d] = disk.Size
		}
	}
	slices.Sort(c.note.Devices)
	if s.opts.Notes == nil {
		if len(reused) > 0 {
			return nil, fmt.Errorf("%w: this service has no notes about bitmaps", ErrBase)
		}
		return c, nil
	}
	process := disks.process
	if process == "" {
		process, _ = ProcessOf(s.opts.PIDFile(a.Guest.ID)) // without it, no bitmap is used next time
	}
	if len(reused) > 0 {
		base, usable, why := s.baseIn(ctx, process, a.Guest.ID, reused)
		if why != "" {
			return nil, fmt.Errorf("%w: %s", ErrBase, why)
		}
		for _, d := range slices.Sorted(maps.Keys(reused)) {
			if !usable[d] {
				return nil, fmt.Errorf("%w: disk %s", ErrBase, d)
			}
		}
		c.base = base
	}
	c.old, _ = s.opts.Notes.Read(a.Guest.ID) // unreadable: as good as none
	c.note.Process, c.note.Pending = process, a.Name
	if c.old.Process == process {
		c.note.Archive = c.old.Archive
	}
	return c, nil
}

// seal writes that the archive is being completed.
func (c *chain) seal() error {
	if c.s.opts.Notes == nil {
		return nil
	}
	c.sealed = true
	return c.s.opts.Notes.Write(c.archive.Guest.ID, c.note)
}

// done writes that it is complete.
func (c *chain) done() error {
	if c.s.opts.Notes == nil {
		return nil
	}
	return c.s.opts.Notes.Write(c.archive.Guest.ID, Note{Process: c.note.Process, Archive: c.archive.Name, Devices: c.note.Devices})
}

// failed puts the old note back if the archive is certainly not there.
func (c *chain) failed(ctx context.Context) error {
	if !c.sealed {
		return nil
	}
	if _, err := c.s.store.Entry(ctx, c.archive); !errors.Is(err, repo.ErrNotFound) {
		return nil
	}
	if c.old.Process == "" {
		return c.s.opts.Notes.Remove(c.archive.Guest.ID)
	}
	return c.s.opts.Notes.Write(c.archive.Guest.ID, c.old)
}
