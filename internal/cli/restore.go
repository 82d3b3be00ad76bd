package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/filearchive"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/image/target"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/restore"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

type restoreOptions struct {
	snapshot   string
	archive    string
	target     string
	base       string
	rate       string
	workers    int
	inPlace    bool
	overwrite  bool
	allowHoles bool
	nbd        nbdFlags
	volume     volumeFlags
	files      extractFlags
	format     string
	path       string
	patterns   []string
	prelude    string
	key        keyOptions
}

func newRestoreCommand(a *app) *cobra.Command {
	var o restoreOptions
	cmd := &cobra.Command{
		Use:   "restore SNAPSHOT ARCHIVE [TARGET]",
		Short: "Restore a directory, a disk image or a small file",
		Long: `Restores one archive of a snapshot to TARGET. For a disk image or a small file
that is:

  a new file        it appears when it is complete; holes stay holes. A file that
                    exists is left alone unless --overwrite replaces it.
  a block device,   with --in-place: only what differs is written. Without
  an existing file, --base the target is read and compared first. Nobody else
  an NBD export     may use it meanwhile, and a restore that stops in between
                    leaves a mixture. An export is nbd://HOST:PORT/EXPORT or
                    nbd+unix:///EXPORT?socket=PATH, with TLS nbds:// and
                    nbds+unix://. It must be at least as large as the image, as
                    a device must; what lies behind the image stays as it is.
  -                 standard output

With --in-place --base SNAPSHOT the target is taken to hold the image of that
snapshot, unchanged since: only chunks that differ between the two snapshots are
touched, and nothing is read from the target. If it was changed after all, the
result is wrong.

With --volume DEVICE there is no TARGET: the image goes behind a header that
says what the device holds, see 'holdfast volume', and is mapped below
/dev/mapper. A volume that holds the image already is kept as it is. What
differs is written, and a restore that stops in between is seen and resumed.
--base is taken only if the header vouches for it.

Every byte is checked against the checksums of the snapshot before it is
written. A missing or damaged chunk ends the restore (exit code 4) and is named
with its place; --allow-holes restores the rest, with zeros there, lists them,
and ends with exit code 3.

An archive of a directory, NAME.pxar, is restored into the directory TARGET, which
is made if it is missing; or written as a tar, a zip or a pxar archive with
--format, to the file TARGET or to standard output. What exists in TARGET stays:
--allow-existing-dirs enters directories that are there, --overwrite replaces
files. --in-place makes TARGET what the archive is: only what differs is touched,
and --delete removes what the archive does not have. --path restores one file or
directory of the archive, --pattern what matches. What this user or this file
system cannot have, as owners or devices, is counted and left out, and the exit
code is 3. A file has its name only when it is complete.

The key of an encrypted backup is taken from --keyfile or the default place. The
archive index.json is the manifest, and client.log the log of 'snapshot
upload-log'.`,
		Example: `  holdfast restore vm/100/latest disk.img restored.img
  holdfast restore vm/100/2026-11-22T10:00:00Z disk.img /dev/vg0/vm-100 --in-place
  holdfast restore vm/100 disk.img disk.raw --in-place --base vm/100/2026-11-21T10:00:00Z
  holdfast restore vm/100 disk.img nbd://storage.example/vm-100 --in-place
  holdfast restore vm/100 disk.img --volume /dev/vg0/vm-100 --map-as virtlet-dm-vm-100
  holdfast restore vm/100 disk.img - | ssh host 'cat > /dev/vg0/data'
  holdfast restore vm/100 vm.conf -
  holdfast restore host/web1 root.pxar /mnt/root
  holdfast restore host/web1 root.pxar /tmp/etc --path /etc
  holdfast restore host/web1 root.pxar /tmp/conf --pattern '/etc/**/*.conf'
  holdfast restore host/web1 home.pxar /home --in-place --delete
  holdfast restore host/web1 root.pxar - --format tar | ssh host tar -xp -C /srv`,
		Args:              between(2, 3),
		ValidArgsFunction: a.completeArchives,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.snapshot, o.archive = args[0], args[1]
			if len(args) > 2 {
				o.target = args[2]
			} else if o.volume.device == "" {
				return usagef("an argument is missing: %s", cmd.UseLine())
			}
			if err := o.checkVolume(cmd); err != nil {
				return err
			}
			return runRestore(cmd.Context(), a, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.inPlace, "in-place", false, "write only what differs onto an existing file, block device, NBD export or directory")
	f.StringVar(&o.base, "base", "", "with --in-place: the snapshot that the target holds")
	f.BoolVar(&o.overwrite, "overwrite", false, "replace a file that exists; of an archive of a directory all files, links and devices")
	f.BoolVar(&o.allowHoles, "allow-holes", false, "go on where a chunk is missing or damaged: an image has zeros there, files are left out")
	f.StringVar(&o.rate, "rate", "", "read at most so many bytes a second from the repository, as 50M")
	f.IntVar(&o.workers, "workers", 0, "chunks worked on at a time (0: by the number of CPUs)")
	o.nbd.add(f)
	o.volume.add(cmd)
	f.StringVar(&o.format, "format", "", "what an archive of a directory becomes: plain, tar, zip or pxar (default: plain, for - pxar)")
	f.StringVar(&o.path, "path", "", "restore one file or directory of the archive")
	f.StringArrayVar(&o.patterns, "pattern", nil, "restore what matches this pattern, and all below it (repeatable; the last match decides, \"!\" in front leaves out)")
	f.StringVar(&o.prelude, "prelude-target", "", "write the prelude of a split archive, its exclude patterns, to this file")
	o.files.add(f)
	o.key.readFlags(cmd)
	complete(cmd, "format", cobra.FixedCompletions([]string{"plain", "pxar", "tar", "zip"}, noFiles))
	complete(cmd, "base", func(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
		return a.completeSnapshots(cmd, nil, prefix)
	})
	return cmd
}

// check refuses options that contradict each other.
func (o restoreOptions) check() (opts restore.Options, err error) {
	opts = restore.Options{Workers: o.workers, AllowHoles: o.allowHoles, Counters: new(restore.Counters)}
	switch {
	case o.target == "":
		return opts, usagef("the target's name is empty")
	case o.inPlace && o.overwrite:
		return opts, usagef("--in-place and --overwrite exclude each other")
	case o.inPlace && o.target == "-":
		return opts, usagef("--in-place needs a file, block device, NBD export or directory")
	case isNBD(o.target) && !o.inPlace:
		return opts, hint(usagef("%s is there already, as a block device is, and is only changed in place", o.target), "the flag is --in-place")
	case o.base != "" && !o.inPlace:
		return opts, usagef("--base goes with --in-place")
	case o.workers < 0 || o.workers > 256:
		return opts, usagef("--workers %d does not lie between 0 and 256", o.workers)
	}
	if isNBD(o.target) {
		if _, err := parseNBD(o.target); err != nil {
			return opts, err
		}
	}
	if o.rate != "" {
		if opts.Rate, err = ui.ParseSize(o.rate); err != nil || opts.Rate <= 0 {
			return opts, usagef("--rate: %q is no speed: write bytes a second, as 50M", o.rate)
		}
	}
	return opts, nil
}

func runRestore(ctx context.Context, a *app, o restoreOptions) error {
	opts, err := o.check()
	if err != nil {
		return err
	}
	if o.volume.device != "" && filearchive.Is(o.archive) {
		return usagef("a volume holds a disk image, and %s is none", o.archive)
	}
	if filearchive.Is(o.archive) {
		return runRestoreTree(ctx, a, o, opts.Rate)
	}
	if flag := o.treeFlag(); flag != "" {
		return usagef("--%s is for archives of directories, and %s is none", flag, o.archive)
	}
	name, err := names.ServerName(o.archive)
	if err != nil && !names.IsSafeID(o.archive) {
		return usage(err)
	}
	if o.target == "-" && ui.IsTerminal(a.Stdout) && name.Kind() != names.Blob {
		return hint(usagef("a disk image is not written to a terminal"), "name a file, or send standard output elsewhere")
	}
	if o.base != "" {
		if _, err := a.parsePlace(o.base); err != nil {
			return err
		}
	}
	return a.withSnapshot(ctx, o.snapshot, func(r repo.Repository, s repo.Snapshot) error {
		m := s.Manifest()
		if name, err = archiveNamed(m, o.archive); err != nil {
			return err
		}
		if o.volume.device != "" && name.Kind() != names.Fidx {
			return usagef("a volume holds a disk image, and %s is none", o.archive)
		}
		if name == names.Manifest {
			text, err := m.Marshal()
			if err != nil {
				return err
			}
			return a.writeBlob(o, s, name, append(text, '\n'))
		}
		if name == names.ClientLog {
			text, err := a.readLog(ctx, o.key, s)
			if err != nil {
				return err
			}
			return a.writeBlob(o, s, name, text)
		}
		f, ok := m.File(string(name))
		if !ok {
			return hint(
				fmt.Errorf("snapshot %s has no archive %s: %w", show(s.Name()), o.archive, repo.ErrNotFound),
				"it has %s", join(archiveNames(m.Files)),
			)
		}
		encrypted := f.CryptMode == manifest.ModeEncrypt && name != names.RSAEncryptedKey
		key, err := a.keyFor(ctx, o.key, show(s.Name()), m, encrypted)
		if err != nil {
			return err
		}
		switch name.Kind() {
		case names.Fidx:
			if o.volume.device != "" {
				return a.restoreVolume(ctx, r, s, f, key, o, opts)
			}
			return a.restoreImage(ctx, r, s, f, key, o, opts)
		case names.Blob:
			text, err := restore.Blob(s, name, key)
			if err != nil {
				return err
			}
			return a.writeBlob(o, s, name, text)
		}
		return hint(fmt.Errorf("%s is for this program, it is not restored", name), "archives of directories are called NAME.pxar")
	})
}

// archiveNamed finds the archive that a person calls name: a client's name or a
// server's, or one without a server's extension that no client would give.
func archiveNamed(m *manifest.Manifest, name string) (names.Archive, error) {
	found, err := names.ServerName(name)
	if err == nil {
		return found, nil
	}
	for _, f := range m.Files {
		if f.Archive().Base() != name {
			continue
		}
		if found != "" {
			return "", usagef("%s may be %s or %s: name one of them", name, found, f.Archive())
		}
		found = f.Archive()
	}
	if found == "" {
		return "", usage(err)
	}
	return found, nil
}

// writeBlob writes a small file.
func (a *app) writeBlob(o restoreOptions, s repo.Snapshot, name names.Archive, text []byte) error {
	if o.inPlace {
		return usagef("--in-place is for disk images, and %s is a small file", o.archive)
	}
	if o.target == "-" {
		if _, err := a.Stdout.Write(text); err != nil {
			return fmt.Errorf("write %s to standard output: %w", name.ClientName(), err)
		}
		return nil
	}
	to, err := target.Create(o.target, int64(len(text)), target.Options{Overwrite: o.overwrite})
	if err != nil {
		return explainTarget(err, o.target)
	}
	defer func() { _ = to.Close() }() // after Finish it does nothing
	if _, err := to.WriteAt(text, 0); err != nil {
		return err
	}
	if err := to.Finish(); err != nil {
		return explainTarget(err, o.target)
	}
	return a.print(map[string]any{"snapshot": show(s.Name()), "archive": string(name), "target": o.target, "size": len(text)}, func() error {
		return a.printf("restored %s of %s to %s: %s\n", name.ClientName(), show(s.Name()), o.target, ui.Size(int64(len(text))))
	})
}

func (a *app) restoreImage(ctx context.Context, r repo.Repository, s repo.Snapshot, f manifest.File, key *chunkcrypt.Key, o restoreOptions, opts restore.Options) error {
	if o.base != "" {
		base, err := a.openBase(ctx, r, o.base)
		if err != nil {
			return err
		}
		defer func() { _ = base.Close() }() // was only read
		opts.Base = base
	}
	to, err := a.openTarget(ctx, o, int64(f.Size))
	if err != nil {
		return explainTarget(err, o.target)
	}
	name := f.Archive()
	start := a.Now()
	m := a.meter("restore "+name.ClientName(), ui.Bytes)
	stop := a.follow(m, func() (int64, int64, string) {
		n := opts.Counters.Load()
		return n.Done(), int64(f.Size), amounts(amount{n.Written, "written"}, amount{n.Same.Bytes, "there already"})
	})
	res, err := restore.Image(ctx, s, name, key, to, opts)
	if cerr := to.Close(); err == nil {
		err = cerr
	}
	stop(err == nil)
	if err != nil {
		return explainRestore(err, o)
	}
	if err := a.showRestore(o, s, res, a.Now().Sub(start).Seconds()); err != nil {
		return err
	}
	return a.holesVerdict(res)
}

func (a *app) openBase(ctx context.Context, r repo.Repository, arg string) (repo.Snapshot, error) {
	name, err := a.snapshot(ctx, r, arg)
	if err != nil {
		return nil, fmt.Errorf("--base: %w", err)
	}
	s, err := r.Open(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("--base: %w", err)
	}
	return s, nil
}

func (a *app) openTarget(ctx context.Context, o restoreOptions, size int64) (image.Target, error) {
	switch {
	case o.target == "-":
		return target.NewStream(a.Stdout, size), nil
	case isNBD(o.target):
		return a.openExport(ctx, o, size)
	}
	var f *target.File
	var err error
	if o.inPlace {
		f, err = target.OpenExisting(o.target, size)
	} else {
		f, err = target.Create(o.target, size, target.Options{Overwrite: o.overwrite})
	}
	if err != nil {
		return nil, err // not f: a nil pointer in an interface
	}
	return f, nil
}

// explainTarget adds the flags to what the error advises.
func explainTarget(err error, path string) error {
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, serr := os.Lstat(path)
	switch {
	case serr != nil:
	case info.Mode().IsRegular():
		return hint(err, "--overwrite replaces it, --in-place writes only what differs")
	case info.Mode()&fs.ModeDevice != 0 && info.Mode()&fs.ModeCharDevice == 0:
		return hint(err, "the flag is --in-place")
	}
	return err
}

func explainRestore(err error, o restoreOptions) error {
	if o.inPlace {
		err = fmt.Errorf("%w (%s holds a mixture now)", err, o.target)
	}
	if _, ok := errors.AsType[*restore.ChunkError](err); ok && exitCode(err) == exitDamaged {
		return hint(err, "pass --allow-holes to restore the rest with zeros there, or restore an older snapshot")
	}
	return err
}

// restoreJSON is the outcome of a restore.
type restoreJSON struct {
	Snapshot string      `json:"snapshot"`
	Archive  string      `json:"archive"`
	Target   string      `json:"target"`
	Size     int64       `json:"size"`
	Seconds  float64     `json:"elapsed"`
	Fetched  int64       `json:"fetched"` // bytes of chunks that were read and checked
	Encoded  int64       `json:"encoded"` // what these took in the repository
	Written  int64       `json:"written"`
	Same     int64       `json:"same"` // not touched: there already
	Zero     int64       `json:"zero"`
	Holes    []rangeJSON `json:"holes,omitempty"`
}

func (a *app) showRestore(o restoreOptions, s repo.Snapshot, res restore.Result, seconds float64) error {
	n := res.Stats
	out := restoreJSON{
		Snapshot: show(s.Name()), Archive: string(res.Archive), Target: o.target, Size: res.Size, Seconds: seconds,
		Fetched: n.Fetched.Bytes, Encoded: n.Encoded, Written: n.Written, Same: n.Same.Bytes, Zero: n.Zero.Bytes,
	}
	for _, r := range res.Holes.Ranges {
		out.Holes = append(out.Holes, rangeJSON{r.Offset, r.Length})
		a.warn("%s: zeros at offset %d, %d bytes: the chunk is missing or damaged", res.Archive.ClientName(), r.Offset, r.Length)
	}
	line := fmt.Sprintf("restored %s of %s to %s: %s in %s (%s written, %s there already, %s empty)\n",
		res.Archive.ClientName(), show(s.Name()), o.target, ui.Size(res.Size), ui.Duration(secondsOf(seconds)),
		ui.Size(n.Written), ui.Size(n.Same.Bytes), ui.Size(n.Zero.Bytes))
	if o.target == "-" { // standard output is the image
		a.say("%s", strings.TrimSuffix(line, "\n"))
		return nil
	}
	return a.print(out, func() error { return a.printf("%s", line) })
}

func (a *app) holesVerdict(res restore.Result) error {
	n := res.Stats.Holes
	if n.Chunks == 0 {
		return nil
	}
	if c, ok := errors.AsType[*restore.ChunkError](res.Holes.First); ok {
		a.warn("the first reason: %v", c.Err)
	}
	return hint(
		mark(errSkipped, "%s of %s could not be restored and are zeros", ui.Size(n.Bytes), res.Archive.ClientName()),
		"another snapshot may have them; 'holdfast verify' shows which ones are sound",
	)
}
