package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/restore"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

type uploadLogOptions struct {
	snapshot string
	file     string
	key      keyOptions
}

func newUploadLogCommand(a *app) *cobra.Command {
	var o uploadLogOptions
	cmd := &cobra.Command{
		Use:   "upload-log SNAPSHOT FILE",
		Short: "Store the log of a backup with its snapshot",
		Long: `Stores a file, or standard input if FILE is '-', beside a finished snapshot as
client.log: the log of the run that made it. A snapshot takes one log, and keeps
it until it is removed itself. The log is encrypted if the snapshot is, unless
--crypt-mode says otherwise.

The manifest does not list the log, so a key signs nothing about it.`,
		Example: `  holdfast backup root.pxar:/ 2> run.log && holdfast snapshot upload-log host/web1 run.log
  journalctl -u backup | holdfast snapshot upload-log vm/100/latest -`,
		Args: exactly(2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return a.completeSnapshots(cmd, args, prefix)
			}
			return nil, cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.snapshot, o.file = args[0], args[1]
			return runUploadLog(cmd.Context(), a, o)
		},
	}
	o.key.readFlags(cmd)
	cmd.Flags().StringVar(&o.key.cryptMode, "crypt-mode", "", "encrypt, sign-only or none (default: as the snapshot; a log is never signed)")
	complete(cmd, "crypt-mode", cobra.FixedCompletions([]string{"encrypt", "sign-only", "none"}, noFiles))
	return cmd
}

func runUploadLog(ctx context.Context, a *app, o uploadLogOptions) error {
	if _, err := a.parsePlace(o.snapshot); err != nil {
		return err
	}
	text, err := a.logText(o.file)
	if err != nil {
		return err
	}
	return a.withSnapshot(ctx, o.snapshot, func(r repo.Repository, s repo.Snapshot) error {
		key, err := a.logKey(ctx, o.key, s)
		if err != nil {
			return err
		}
		enc, err := blob.NewEncoder(key, a.Rand, true)
		if err != nil {
			return err
		}
		defer enc.Close()
		raw, err := enc.Append(nil, text)
		if err != nil {
			return err
		}
		if err := r.PutLog(ctx, s.Name(), raw); err != nil {
			if errors.Is(err, repo.ErrExists) {
				return hint(fmt.Errorf("snapshot %s has a log already", show(s.Name())), "'holdfast snapshot show-log' prints it")
			}
			return err
		}
		mode := manifest.ModeNone
		if key != nil {
			mode = manifest.ModeEncrypt
		}
		out := map[string]any{"snapshot": show(s.Name()), "filename": string(names.ClientLog), "crypt-mode": mode, "size": len(text)}
		return a.print(out, func() error {
			return a.printf("log of %s: %s\n", show(s.Name()), ui.Size(int64(len(text))))
		})
	})
}

// logText reads a file, or standard input for "-".
func (a *app) logText(path string) ([]byte, error) {
	if path != "-" {
		return readSmall(path, blob.MaxPlain)
	}
	b, err := io.ReadAll(io.LimitReader(a.Stdin, blob.MaxPlain+1))
	if err != nil {
		return nil, fmt.Errorf("read the log from standard input: %w", err)
	}
	if len(b) > blob.MaxPlain {
		return nil, fmt.Errorf("the log on standard input is longer than %s", ui.Size(blob.MaxPlain))
	}
	return b, nil
}

// logKey is what a log is encrypted with, nil for nothing.
func (a *app) logKey(ctx context.Context, o keyOptions, s repo.Snapshot) (*chunkcrypt.Key, error) {
	encrypt := isEncrypted(s.Manifest().Files)
	if o.cryptMode != "" {
		mode, err := manifest.ParseCryptMode(o.cryptMode)
		if err != nil {
			return nil, usage(fmt.Errorf("--crypt-mode: %w", err))
		}
		if mode == manifest.ModeNone && o.given() {
			return nil, usagef("--crypt-mode none and a key exclude each other")
		}
		encrypt = mode == manifest.ModeEncrypt
	}
	if !encrypt && !o.given() {
		return nil, nil
	}
	key, err := a.keyFor(ctx, o, show(s.Name()), s.Manifest(), encrypt)
	if !encrypt {
		key = nil
	}
	return key, err
}

// isEncrypted reports whether any archive of a snapshot is.
func isEncrypted(files []manifest.File) bool {
	return slices.ContainsFunc(files, func(f manifest.File) bool { return f.CryptMode == manifest.ModeEncrypt })
}

func newShowLogCommand(a *app) *cobra.Command {
	var o keyOptions
	cmd := &cobra.Command{
		Use:   "show-log SNAPSHOT",
		Short: "Print the log that is stored with a snapshot",
		Long: `Prints the log that upload-log stored with a snapshot. On a terminal, bytes that
it could take for commands are replaced.`,
		Example:           `  holdfast snapshot show-log vm/100/latest`,
		Args:              exactly(1),
		ValidArgsFunction: a.completeSnapshots,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runShowLog(cmd.Context(), a, o, args[0])
		},
	}
	o.readFlags(cmd)
	return cmd
}

func runShowLog(ctx context.Context, a *app, o keyOptions, arg string) error {
	return a.withSnapshot(ctx, arg, func(_ repo.Repository, s repo.Snapshot) error {
		text, err := a.readLog(ctx, o, s)
		if err != nil {
			return err
		}
		out := map[string]string{"log": strings.ToValidUTF8(string(text), "\ufffd")}
		return a.print(out, func() error {
			if ui.IsTerminal(a.Stdout) {
				text = []byte(ui.CleanText(string(text)))
			}
			_, err := a.Stdout.Write(text)
			return err
		})
	})
}

// readLog returns the log of a snapshot. Its own magic says whether it is
// encrypted.
func (a *app) readLog(ctx context.Context, o keyOptions, s repo.Snapshot) ([]byte, error) {
	raw, err := s.Blob(names.ClientLog)
	if errors.Is(err, repo.ErrNotFound) {
		return nil, hint(
			mark(repo.ErrNotFound, "snapshot %s has no log", show(s.Name())),
			"'holdfast snapshot upload-log' stores one",
		)
	}
	if err != nil {
		return nil, err
	}
	h, err := blob.ParseHeader(raw)
	if err != nil {
		return nil, &repo.CorruptError{What: "log of " + show(s.Name()), Err: err}
	}
	key, err := a.keyFor(ctx, o, show(s.Name()), s.Manifest(), h.Kind.Encrypted())
	if err != nil {
		return nil, err
	}
	return restore.Blob(s, names.ClientLog, key)
}

// logFile describes the log of a snapshot in a list of its files.
func logFile(s repo.Snapshot) (f fileJSON, ok bool, err error) {
	raw, err := s.Blob(names.ClientLog)
	if errors.Is(err, repo.ErrNotFound) {
		return f, false, nil
	}
	if err != nil {
		return f, false, err
	}
	f = fileJSON{Filename: string(names.ClientLog), CryptMode: string(manifest.ModeNone), Size: uint64(len(raw))}
	if h, err := blob.ParseHeader(raw); err == nil && h.Kind.Encrypted() {
		f.CryptMode = string(manifest.ModeEncrypt)
	}
	return f, true, nil
}
