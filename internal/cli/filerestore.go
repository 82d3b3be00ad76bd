package cli

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/filearchive"
	"github.com/holdfast-backup/holdfast/internal/filerestore"
	"github.com/holdfast-backup/holdfast/internal/filerestore/direct"
	"github.com/holdfast-backup/holdfast/internal/filerestore/files"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image/archive"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// fileRestoreProgram is the name under which this program is the tool that file
// browsers call.
const fileRestoreProgram = "proxmox-file-restore"

func newFileRestoreCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "file-restore",
		Short: "List and fetch files inside of disk images",
		Long: `Finds files in the archives of a snapshot: in those of directories, and in the
file systems on disk images, their partitions and logical volumes. No image is
restored or mounted for it, and it needs no privilege.

Paths begin with an archive; 'list SNAPSHOT /' shows them. On a disk image follow

  raw/PATH               a file system on all of it
  part/N/PATH            a file system on partition N
  lvm/GROUP/VOLUME/PATH  a file system on a logical volume
  md/NAME/PATH           a file system on an array of Linux (restore machine)

Understood are GPT and MBR, LVM (linear, striped, RAID 0 and 1, thin), ext2,
ext3, ext4 and XFS, with what is in their journals, btrfs, NTFS, FAT, exFAT and
ISO 9660. What is not understood is refused by its name, and never shown wrong:
a restore machine reads it then, a small virtual machine that has the images as
disks and its own kernel (--driver auto). It needs QEMU and a kernel package,
see 'file-restore appliance', takes seconds to start, and stays for the next
commands until nobody uses it.

Called by the name proxmox-file-restore, as through a symbolic link, the program
is this command, and prints errors of list as that one does.`,
		Example: `  holdfast file-restore list vm/100 /
  holdfast file-restore list vm/100 /drive-scsi0.img/part/1/etc
  holdfast file-restore extract vm/100 /drive-scsi0.img/part/1/etc/hosts -
  holdfast file-restore extract vm/100 /drive-scsi0.img/lvm/vg0/home/anna ./anna`,
	}
	cmd.AddCommand(newFileRestoreListCommand(a), newFileRestoreExtractCommand(a), newFileRestoreStatusCommand(a), newFileRestoreStopCommand(a), newFileRestoreApplianceCommand(a))
	return cmd
}

// newFileRestoreRootCommand is the program proxmox-file-restore.
func newFileRestoreRootCommand(a *app) *cobra.Command {
	root := newFileRestoreCommand(a)
	root.Use = fileRestoreProgram
	a.setUp(root)
	a.repositoryFlags(root)
	root.AddCommand(newVersionCommand(a), newCompletionCommand(a))
	root.InitDefaultHelpCmd()
	parents(root)
	return root
}

// fileRestoreOptions are those of all commands that look into archives.
type fileRestoreOptions struct {
	snapshot string
	path     string
	base64   bool
	driver   string
	idle     time.Duration
	pass     string // file with the passphrase of encrypted volumes
	cache    string
	key      keyOptions
}

func (o *fileRestoreOptions) flags(a *app, cmd *cobra.Command) {
	f := cmd.Flags()
	a.fileRestoreBool(f, &o.base64, "base64", "the path is in base64, as file browsers pass it")
	f.StringVar(&o.driver, "driver", driverAuto, "who reads disk images: direct, vm, or auto")
	f.DurationVar(&o.idle, "idle", 10*time.Minute, "how long a restore machine that is started stays when nobody uses it")
	f.StringVar(&o.pass, "passphrase-file", "", "passphrase of encrypted volumes on the images: a file, or - for standard input")
	f.StringVar(&o.cache, "cache", "128M", "memory for decoded chunks")
	o.key.readFlags(cmd)
	complete(cmd, "driver", cobra.FixedCompletions([]string{driverAuto, driverDirect, driverVM}, cobra.ShellCompDirectiveNoFileComp))
}

// fileRestoreBool is a flag that is there or not, and has a value of its own in the
// program that file browsers call: --base64 1.
func (a *app) fileRestoreBool(f *pflag.FlagSet, to *bool, name, usage string) {
	f.BoolVar(to, name, false, usage)
	if a.Program == fileRestoreProgram {
		f.Lookup(name).NoOptDefVal = ""
	}
}

// fileRestore is a snapshot in whose archives is looked.
type fileRestore struct {
	*app
	snap  repo.Snapshot
	cache *archive.Cache
	key   keyOptions
	o     fileRestoreOptions
	path  filerestore.Path
	open  []func() error

	passphrase func() ([]byte, error) // of encrypted volumes; nil: none was given
}

// Who reads disk images.
const (
	driverAuto   = "auto"
	driverDirect = "direct"
	driverVM     = "vm"
)

// withFileRestore opens a snapshot for a job, which gets the path that was asked
// for, with the name of the archive as the manifest has it.
func (a *app) withFileRestore(ctx context.Context, o fileRestoreOptions, job func(*fileRestore, filerestore.Path) error) error {
	p, err := o.parse()
	if err != nil {
		return err
	}
	switch o.driver {
	case driverAuto, driverDirect, driverVM:
	default:
		return usagef("--driver %q is not auto, direct or vm", o.driver)
	}
	cache, err := cacheSize(o.cache)
	if err != nil {
		return err
	}
	return a.withSnapshot(ctx, o.snapshot, func(_ repo.Repository, s repo.Snapshot) (err error) {
		r := &fileRestore{app: a, snap: s, cache: archive.NewCache(cache), key: o.key, o: o, passphrase: sync.OnceValues(o.passphrase)}
		defer func() {
			for _, c := range slices.Backward(r.open) {
				err = errors.Join(err, c())
			}
		}()
		if p.Archive != "" {
			if p.Archive, err = r.archive(p.Archive); err != nil {
				return err
			}
		}
		r.path = p
		return job(r, p)
	})
}

func (o fileRestoreOptions) parse() (filerestore.Path, error) {
	text := o.path
	if o.base64 {
		b, err := decodePath(text)
		if err != nil {
			return filerestore.Path{}, err
		}
		text = b
	}
	p, err := filerestore.ParsePath(text)
	if err != nil {
		return p, usage(err)
	}
	return p, nil
}

// archive finds the archive that a path begins with: its endings may be left out.
func (r *fileRestore) archive(name string) (string, error) {
	m := r.snap.Manifest()
	for _, ending := range []string{"", ".fidx", ".didx", ".img.fidx", ".pxar.didx", ".mpxar.didx"} {
		if f, ok := m.File(name + ending); ok && f.Archive().Kind() != names.Blob {
			return f.Filename, nil
		}
	}
	if parts, err := filearchive.Find(m, name); err == nil {
		return string(parts.Meta), nil
	}
	return "", hint(mark(repo.ErrNotFound, "snapshot %s has no archive %q with files in it", show(r.snap.Name()), name), "it has %s", join(archiveNames(m.Files)))
}

// archives lists what a snapshot has, as entries.
func (r *fileRestore) archives() (all []filerestore.Entry) {
	m := r.snap.Manifest()
	for _, p := range filearchive.All(m) {
		all = append(all, filerestore.Entry{Path: filerestore.Path{Archive: string(p.Meta)}, Type: filerestore.Dir})
	}
	for _, f := range m.Files {
		if f.Archive().Kind() == names.Fidx {
			size := int64(f.Size)
			all = append(all, filerestore.Entry{Path: filerestore.Path{Archive: f.Filename}, Type: filerestore.Virtual, Size: &size})
		}
	}
	return all
}

// driver opens who looks into an archive.
func (r *fileRestore) driver(ctx context.Context, p filerestore.Path) (filerestore.Driver, error) {
	m := r.snap.Manifest()
	if names.Archive(p.Archive).Kind() == names.Didx {
		parts, err := filearchive.Find(m, p.Archive)
		if err != nil {
			return nil, err
		}
		key, err := r.keyForFiles(ctx, r.key, r.snap, parts.Meta, parts.Payload, names.Catalog)
		if err != nil {
			return nil, err
		}
		return files.New(r.snap, parts, key, r.cache), nil
	}
	if r.o.driver == driverVM {
		return r.machine(ctx)
	}
	pass, err := r.passphrase()
	if err != nil {
		return nil, err
	}
	opened, err := r.disks(ctx)
	if err != nil {
		return nil, err
	}
	var disks []direct.Disk
	for _, d := range opened {
		disks = append(disks, direct.Disk{Archive: string(d.name), Image: d.image})
	}
	d := direct.New(disks, direct.Options{Passphrase: pass})
	if r.o.driver == driverDirect {
		return d, nil
	}
	return &autoDriver{Driver: d, r: r}, nil
}

// disks opens all images of the snapshot, since a volume may span them.
func (r *fileRestore) disks(ctx context.Context) (all []*disk, err error) {
	found, err := diskFiles(r.snap, nil)
	if err != nil {
		return nil, err
	}
	key, err := r.keyFor(ctx, r.key, show(r.snap.Name()), r.snap.Manifest(), anyEncrypted(found))
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		d, err := r.openDisk(ctx, r.snap, f, key, r.cache, diskOptions{})
		if err != nil {
			return nil, err
		}
		r.open = append(r.open, func() error { return d.close(r.app) })
		all = append(all, d)
	}
	return all, nil
}

// tell says what a driver wants users to know.
func (r *fileRestore) tell(d filerestore.Driver) {
	for _, n := range d.Notices() {
		r.say("%s", n)
	}
}

// explainFiles adds what to do. What ctx has cut short is nobody's fault.
func explainFiles(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, filerestore.ErrLocked) {
		return hint(err, "--passphrase-file opens it")
	}
	if errors.Is(err, filerestore.ErrPassphrase) || errors.Is(err, filerestore.ErrPath) {
		return usage(err)
	}
	if _, ok := errors.AsType[*fsread.UnsupportedError](err); ok {
		return hint(err, "'holdfast map' makes the image a block device, which a machine that understands it can use")
	}
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, repo.ErrNotFound) {
		return hint(mark(repo.ErrNotFound, "%v", err), "'holdfast file-restore list' shows what there is")
	}
	if _, ok := errors.AsType[*fsread.CorruptError](err); ok {
		return mark(errDamaged, "%v", err)
	}
	return err
}
