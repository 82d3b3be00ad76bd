package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/tree"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

type backupOptions struct {
	specs        []string
	backupType   string
	backupID     string
	backupTime   string
	owner        string
	notes        string
	sourceFormat string
	allowBacking []string
	stdinSize    string
	syncLevel    string
	rate         string
	changedMaps  []string
	chunkKiB     int
	workers      int
	skipErrors   bool
	readHoles    bool
	forceShare   bool
	dryRun       bool
	tree         treeFlags
	nbd          nbdFlags
	key          keyOptions
}

func newBackupCommand(a *app) *cobra.Command {
	var o backupOptions
	cmd := &cobra.Command{
		Use:   "backup NAME.img:PATH|NAME.pxar:DIR|NAME.conf:FILE...",
		Short: "Back up disk images, directories and small files as one snapshot",
		Long: `Makes one snapshot of all that is named. Each argument gives an archive its name,
whose ending says what it is, and its source:

  NAME.img:PATH    a disk image: raw file, block device, qcow2 image, or - for
                   what comes from standard input
  NAME.img:URI     an export of an NBD server such as qemu-nbd, QEMU or nbdkit:
                   nbd://HOST:PORT/EXPORT, nbd+unix:///EXPORT?socket=PATH; with
                   TLS nbds:// and nbds+unix://
  NAME.pxar:DIR    a directory with all that is below it on the same file system
  NAME.conf:FILE   a small file, up to 16 MiB; also .json, .key and .log

The snapshot is called type/id/time. It appears when everything in it is safely
stored; a backup that stops before leaves nothing visible.

Only data that the repository does not have is stored. Holes are not read,
unless --read-holes asks for it. With --changed-map NAME.img=FILE, a JSON file
{"base": "type/id/time", "size": bytes, "extents": [{"offset": bytes, "length":
bytes}, ...]} that lists what changed since the newest snapshot, the rest of the
image is not read either.

Directories: everything that Linux knows of a file is kept. In metadata mode, the
default, files whose metadata and size are as in the snapshot before are not
read; data mode reads everything, and so does legacy mode, which makes archives
that old clients understand. --exclude and files called .pxarexclude leave
things out. Files that vanish or cannot be read are listed, and the exit code
is 3.

Containers: with an id map the owners inside of the container are stored, as if
the backup had been made in there, so that it can be restored under any other
map. --id-map-from takes the map from the container's configuration or from one
of its processes; --id-map gives it in words.

Encryption: if --keyfile names a key, or there is one at
~/.config/holdfast/encryption-key.json or
~/.config/proxmox-backup/encryption-key.json, the backup is encrypted with it.
--crypt-mode sign-only leaves the data readable and signs the list of archives;
none does neither. A master key (--master-pubkey-file, or master-public.pem in
the same places) gets a copy of the key into the snapshot.

A qcow2 image whose name ends in .qcow2, or with --source-format qcow2, may have
backing files in its own directory; --allow-backing names another directory that
is trusted. A raw image whose guest wrote a qcow2 header into it needs
--source-format raw.

Unreadable sectors end the backup, unless --skip-errors stores zeros in their
place: they are listed then, and the exit code is 3.`,
		Example: `  holdfast backup disk.img:/dev/vg0/vm-100 vm.conf:/etc/pve/qemu-server/100.conf --backup-type vm --backup-id 100
  holdfast backup root.img:server.qcow2 --keyfile key.json --notes "before the upgrade"
  lvcreate -s -n snap -L 5G vg0/data && holdfast backup data.img:/dev/vg0/snap --rate 100M
  holdfast backup disk.img:nbd://storage.example:10809/vm-100 --backup-type vm --backup-id 100
  holdfast backup "disk.img:nbd+unix:///vda?socket=/run/vm-100.sock" --backup-type vm --backup-id 100
  holdfast backup root.pxar:/ home.pxar:/home --exclude '*.tmp' --exclude /var/cache
  holdfast backup root.pxar:/var/lib/lxc/101/rootfs pct.conf:/etc/pve/lxc/101.conf --backup-type ct --backup-id 101 --id-map-from /etc/pve/lxc/101.conf --container-excludes
  ssh host cat /dev/vg0/data | holdfast backup data.img:- --backup-id host`,
		Args: between(1, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.specs = args
			return runBackup(cmd.Context(), a, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.backupType, "backup-type", "host", "vm, ct or host")
	f.StringVar(&o.backupID, "backup-id", "", "name of the machine (default: this host's name)")
	f.StringVar(&o.backupTime, "backup-time", "", "time of the snapshot, RFC 3339 or seconds since 1970 (default: now)")
	f.StringVar(&o.owner, "owner", "", "who backs up, user@realm or user@realm!token; must own the group (a new group gets root@pam by default)")
	f.StringVar(&o.notes, "notes", "", "notes on the snapshot")
	f.StringVar(&o.sourceFormat, "source-format", "auto", "format of the images: raw, qcow2 or auto")
	f.StringArrayVar(&o.allowBacking, "allow-backing", nil, "directory whose files may back a qcow2 image")
	f.BoolVar(&o.forceShare, "force-share", false, "read an image that a virtual machine writes to; what is read may be torn")
	f.StringVar(&o.stdinSize, "stdin-size", "", "bytes that must come from standard input")
	f.StringArrayVar(&o.changedMaps, "changed-map", nil, "NAME.img=FILE: read only what FILE lists as changed")
	f.BoolVar(&o.readHoles, "read-holes", false, "read holes too, for file systems that report them wrongly")
	f.StringVar(&o.rate, "rate", "", "read at most so many bytes a second, as 50M")
	f.IntVar(&o.chunkKiB, "chunk-size", backup.DefaultChunkSize>>10, "chunk size in KiB, a power of two; of directories the average, from 64 to 4096; other sizes share no data with the default")
	f.IntVar(&o.workers, "workers", 0, "chunks worked on at a time (0: by the number of CPUs)")
	f.StringVar(&o.syncLevel, "sync-level", string(datastore.SyncFilesystem), "what is made durable before the snapshot appears: none, filesystem (everything, at the end) or file (each chunk at once)")
	f.BoolVar(&o.skipErrors, "skip-errors", false, "store zeros for unreadable sectors and list them")
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "open the sources and say what would be done")
	o.tree.add(cmd)
	o.nbd.add(f)
	o.key.writeFlags(cmd)
	complete(cmd, "backup-type", cobra.FixedCompletions([]string{"ct", "host", "vm"}, noFiles))
	complete(cmd, "sync-level", cobra.FixedCompletions([]string{"file", "filesystem", "none"}, noFiles))
	complete(cmd, "source-format", cobra.FixedCompletions([]string{"auto", "qcow2", "raw"}, noFiles))
	return cmd
}

// target names the snapshot to be.
func (a *app) target(o backupOptions) (names.Snapshot, error) {
	typ, err := names.ParseType(o.backupType)
	if err != nil {
		return names.Snapshot{}, usage(fmt.Errorf("--backup-type: %w", err))
	}
	id := o.backupID
	if id == "" {
		host, err := a.Hostname()
		if err != nil {
			return names.Snapshot{}, fmt.Errorf("this host's name: %w; pass --backup-id", err)
		}
		id, _, _ = strings.Cut(host, ".")
	}
	s := names.Snapshot{NS: a.ns, Group: names.Group{Type: typ, ID: id}, Time: a.Now().Unix()}
	if o.backupTime != "" {
		if s.Time, err = parseBackupTime(o.backupTime); err != nil {
			return names.Snapshot{}, usage(fmt.Errorf("--backup-time: %w", err))
		}
	}
	if err := s.Check(); err != nil {
		return names.Snapshot{}, usage(err)
	}
	return s, nil
}

func parseBackupTime(s string) (int64, error) {
	var sec int64
	if n, err := fmt.Sscanf(s+"\n", "%d\n", &sec); err == nil && n == 1 {
		return sec, nil
	}
	return names.ParseRFC3339(s)
}

// checkOwner refuses what is no user and no token.
func checkOwner(s string) error {
	if _, err := names.ParseAuthID(s); err != nil {
		return usage(fmt.Errorf("owner: %w", err))
	}
	return nil
}

func runBackup(ctx context.Context, a *app, o backupOptions) (err error) {
	if a.sync, err = datastore.ParseSyncLevel(o.syncLevel); err != nil {
		return usage(fmt.Errorf("--sync-level: %w", err))
	}
	job, err := a.backupJob(o)
	if err != nil {
		return err
	}
	sources, err := a.parseSources(o)
	if err != nil {
		return err
	}
	where, err := a.location()
	if err != nil { // before sources and passwords
		return err
	}
	switch {
	case a.sync == datastore.SyncFilesystem || where.dir != "":
	case where.bucket != nil:
		return usagef("--sync-level is for directories: what is written to %s is kept", where)
	default:
		return usagef("--sync-level is a setting of the datastore on %s", where)
	}
	defer func() {
		if cerr := sources.close(); err == nil {
			err = cerr
		}
	}()
	if err := sources.open(ctx, a); err != nil {
		return err
	}
	job.Sources = sources.list()
	crypt, err := a.chooseCrypt(ctx, o.key)
	if err != nil {
		return err
	}
	job.Options.CryptMode, job.Options.Key = crypt.mode, crypt.key
	job.Master, job.KeyCreated = crypt.master, crypt.created
	if o.dryRun {
		return a.showPlan(job, sources)
	}
	return a.with(ctx, func(r repo.Repository) error {
		rep, err := a.runJob(ctx, r, job, sources.size())
		if err != nil {
			return explainBackup(err)
		}
		if err := a.showBackup(rep, crypt); err != nil {
			return err
		}
		return backupVerdict(rep)
	})
}

// backupJob is what follows from the flags alone.
func (a *app) backupJob(o backupOptions) (job backup.Job, err error) {
	if job.Snapshot, err = a.target(o); err != nil {
		return job, err
	}
	if o.owner != "" {
		if err := checkOwner(o.owner); err != nil {
			return job, err
		}
	}
	if o.rate != "" {
		if job.Options.Rate, err = ui.ParseSize(o.rate); err != nil || job.Options.Rate <= 0 {
			return job, usagef("--rate: %q is no speed: write bytes a second, as 50M", o.rate)
		}
	}
	if o.chunkKiB < 4 || o.chunkKiB > 16<<10 || o.chunkKiB&(o.chunkKiB-1) != 0 {
		return job, usagef("--chunk-size %d is not a power of two between 4 and 16384 (KiB)", o.chunkKiB)
	}
	if o.workers < 0 || o.workers > 256 {
		return job, usagef("--workers %d does not lie between 0 and 256", o.workers)
	}
	job.Owner, job.Notes = o.owner, o.notes
	job.Options.ChunkSize, job.Options.Workers = o.chunkKiB<<10, o.workers
	job.Options.Counters, job.Options.Rand = new(backup.Counters), a.Rand
	return job, nil
}

// runJob runs the pipeline and shows how far it is.
func (a *app) runJob(ctx context.Context, r repo.Repository, job backup.Job, total int64) (backup.Report, error) {
	m := a.meter("backup "+job.Snapshot.GroupPath(), ui.Bytes)
	stop := a.follow(m, func() (int64, int64, string) {
		s := job.Options.Counters.Load()
		return s.Done(), total, amounts(amount{s.Stored.Bytes, "new"}, amount{s.Known.Bytes + s.Unchanged.Bytes, "known"}, amount{s.Zero.Bytes, "empty"})
	})
	rep, err := backup.Run(ctx, r, job)
	stop(err == nil)
	return rep, err
}

// followEvery is how often a job is asked how far it is.
const followEvery = 100 * time.Millisecond

// follow feeds a progress from a job that only counts. stop must be called.
func (a *app) follow(m ui.Progress, state func() (done, total int64, note string)) (stop func(ok bool)) {
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		t := time.NewTicker(followEvery)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				m.Update(state())
			case <-quit:
				m.Update(state())
				return
			}
		}
	}()
	return func(ok bool) {
		close(quit)
		<-ended
		m.Done(ok)
	}
}

// explainBackup adds what to do.
func explainBackup(err error) error {
	switch {
	case errors.Is(err, backup.ErrOtherBase), errors.Is(err, backup.ErrMap):
		return hint(err, "without --changed-map the image is read in full")
	case errors.Is(err, tree.ErrTooMany):
		return explainTree(err)
	case errors.Is(err, repo.ErrExists):
		return hint(err, "wait a second, or choose another --backup-time")
	}
	return err
}
