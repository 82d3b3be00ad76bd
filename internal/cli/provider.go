package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/provider/dirstore"
	"github.com/holdfast-backup/holdfast/internal/provider/repostore"
	"github.com/spf13/cobra"
)

// providerOptions are common to all that works as a backup provider.
type providerOptions struct {
	storage   string
	directory string
	trees     string
	disks     string
	mechanism string
	mode      string
	detection string
	owner     string
	stateDir  string
	pidFiles  string
	key       keyOptions
}

func newProviderCommand(a *app) *cobra.Command {
	var o providerOptions
	var args string
	cmd := &cobra.Command{
		Use:   "provider CALL",
		Short: "Back up and restore guests as Proxmox VE calls for it",
		Long: `Answers one call of the backup-provider interface of Proxmox VE, with its
arguments as JSON and its result as JSON on standard output. 'holdfast provider
serve' answers any number of them. The calls:

  ` + wrapWords(providerCalls(), 78) + `

Calls of a backup need the argument archive-name, which backup_init gives. The
call backup_container also walks the container's tree. A call that begins a
restore holds what it opened until its standard input ends.`,
		Example: `  holdfast provider backup_init --args '{"vmid":100,"vmtype":"qemu","start-time":1767322800}'
  holdfast provider storage_list --args '{"vmid":100}'
  holdfast provider archive_get_guest_config --args '{"volname":"backup/vm/100/2026-01-02T03:00:00Z"}'`,
		Args: exactly(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return providerCalls(), noFiles
		},
		RunE: func(cmd *cobra.Command, names []string) error {
			return runProviderCall(cmd.Context(), a, o, names[0], args)
		},
	}
	cmd.Flags().StringVar(&args, "args", "{}", "the arguments, a JSON object")
	o.add(cmd)
	cmd.AddCommand(newProviderServeCommand(a), newProviderWalkCommand(a), newProviderImportCommand(a))
	return cmd
}

func (o *providerOptions) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.storage, "storage", "", "id of the entry in the platform's configuration of storages; its dirty bitmaps belong to it")
	f.StringVar(&o.directory, "directory", "", "keep backups in this directory as qcow2 and tar files, not in a repository")
	f.StringVar(&o.trees, "container-format", "", "with --directory, what containers are kept as: tar or squashfs (default: tar)")
	f.StringVar(&o.disks, "disk-compression", "", "with --directory, how disks are compressed: none, or zstd, which QEMU reads from version 5.1 on (default: none)")
	f.StringVar(&o.mechanism, "mechanism", string(provider.NBD), "how disks are handed over: nbd, file-handle or block-device")
	f.StringVar(&o.mode, "mode", "incremental", "incremental reads what a dirty bitmap lists; full reads everything")
	f.StringVar(&o.detection, "change-detection-mode", "", "which files of containers are read: metadata or data (default: metadata)")
	f.StringVar(&o.owner, "owner", "", "who backs up, as in 'holdfast backup'")
	f.StringVar(&o.stateDir, "state-dir", "/run/holdfast/provider", "for notes about dirty bitmaps and for what restoring shows as files; must be empty after a reboot")
	f.StringVar(&o.pidFiles, "pid-files", "/run/qemu-server/%d.pid", "where the process numbers of machines are, with %d for the id")
	o.key.writeFlags(cmd)
	complete(cmd, "mechanism", cobra.FixedCompletions([]string{"nbd", "file-handle", "block-device"}, noFiles))
	complete(cmd, "container-format", cobra.FixedCompletions([]string{"tar", "squashfs"}, noFiles))
	complete(cmd, "disk-compression", cobra.FixedCompletions([]string{"none", "zstd"}, noFiles))
	complete(cmd, "mode", cobra.FixedCompletions([]string{"full", "incremental"}, noFiles))
	complete(cmd, "change-detection-mode", cobra.FixedCompletions([]string{"data", "metadata"}, noFiles))
}

// check refuses what makes no sense.
func (o providerOptions) check() error {
	switch provider.Mechanism(o.mechanism) {
	case provider.NBD, provider.FileHandle, provider.BlockDevice:
	default:
		return usagef("--mechanism %q: want nbd, file-handle or block-device", o.mechanism)
	}
	if o.mode != "full" && o.mode != "incremental" {
		return usagef("--mode %q: want full or incremental", o.mode)
	}
	if d := backup.Detection(o.detection); d != backup.DetectAuto && d != backup.DetectMetadata && d != backup.DetectData {
		return usagef("--change-detection-mode %q: want metadata or data", o.detection)
	}
	if k := dirstore.Trees(o.trees); k != "" && k != dirstore.Tar && k != dirstore.Squashfs {
		return usagef("--container-format %q: want tar or squashfs", o.trees)
	}
	if o.disks != "" && o.disks != "none" && o.disks != "zstd" {
		return usagef("--disk-compression %q: want none or zstd", o.disks)
	}
	if o.directory == "" && o.disks != "" {
		return usagef("--disk-compression goes with --directory: a repository compresses by itself")
	}
	if o.directory == "" && o.trees != "" {
		return usagef("--container-format goes with --directory: a repository keeps containers as file archives")
	}
	if o.directory != "" && o.detection != "" {
		return usagef("--change-detection-mode goes with a repository: a directory keeps containers in full")
	}
	if o.owner != "" {
		return checkOwner(o.owner)
	}
	return nil
}

// withProvider opens the storage and a directory of this process for one job. A
// service with these options may be made any number of times meanwhile.
func (a *app) withProvider(ctx context.Context, o providerOptions, job func(provider.Storage, provider.Options) error) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	if o.stateDir, err = filepath.Abs(o.stateDir); err != nil { // others are told of paths in it
		return err
	}
	store, err := a.providerStorage(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	opts := provider.Options{
		VMs:     provider.Mechanism(o.mechanism),
		Full:    o.mode == "full",
		PIDFile: func(vmid int) string { return fmt.Sprintf(o.pidFiles, vmid) },
	}
	if opts.Notes, err = provider.OpenNotebook(filepath.Join(o.stateDir, "bitmaps"), o.storage); err != nil {
		return err
	}
	all := filepath.Join(o.stateDir, "scratch")
	if err := provider.SweepScratch(ctx, all); err != nil {
		a.warn("what a killed process left in %s stays: %v", all, err)
	}
	own, err := provider.ScratchName()
	if err != nil {
		return err
	}
	opts.Scratch = filepath.Join(all, own)
	if err := os.MkdirAll(opts.Scratch, 0o700); err != nil {
		return err
	}
	defer func() {
		if rerr := os.Remove(opts.Scratch); err == nil && rerr != nil {
			err = fmt.Errorf("something is still shown to others: %w", rerr)
		}
	}()
	return job(store, opts)
}

// providerStorage opens what backups go to.
func (a *app) providerStorage(ctx context.Context, o providerOptions) (provider.Storage, error) {
	if o.directory != "" {
		return dirstore.Open(o.directory, dirstore.Options{Incremental: o.mode == "incremental", Trees: dirstore.Trees(o.trees), Compress: o.disks == "zstd", Log: a.log()})
	}
	host, err := a.Hostname()
	if err != nil {
		return nil, fmt.Errorf("this host's name: %w", err)
	}
	if _, err := a.location(); err != nil { // before passwords
		return nil, err
	}
	crypt, err := a.chooseCrypt(ctx, o.key)
	if err != nil {
		return nil, err
	}
	r, err := a.open(ctx)
	if err != nil {
		return nil, err
	}
	return repostore.New(r, repostore.Options{
		NS: a.ns, Owner: o.owner, Origin: o.storage + "@" + host,
		Backup:    backup.Options{CryptMode: crypt.mode, Key: crypt.key},
		Detection: backup.Detection(o.detection),
		Master:    crypt.master, KeyCreated: crypt.created,
		Location: a.Location,
	}), nil
}

// wrapWords sets words in lines of at most n bytes, indented like the text of a
// help page.
func wrapWords(words []string, n int) string {
	var b strings.Builder
	length := 0
	for i, w := range words {
		switch {
		case i == 0:
		case length+1+len(w) > n:
			b.WriteString("\n  ")
			length = 0
		default:
			b.WriteByte(' ')
			length++
		}
		b.WriteString(w)
		length += len(w)
	}
	return b.String()
}

// providerCalls lists the calls of the command line: one of them is another
// process's elsewhere.
func providerCalls() []string {
	calls := provider.Calls()
	i := slices.Index(calls, "backup_container_prepare")
	return slices.Insert(calls, i+1, containerCall)
}
