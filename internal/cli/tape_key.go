package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/keyfile"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/job"
	"github.com/holdfast-backup/holdfast/internal/tape/keys"
	"github.com/holdfast-backup/holdfast/internal/tape/keysvc"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

// tapeKeys are the keys of tapes.
type tapeKeys struct{ keys.Store }

func openTapeKeys(d confdir.Dir) tapeKeys { return tapeKeys{keys.New(d)} }

// encrypter brings keys into drives, those too that only holdfast-tape-key may read.
func (k tapeKeys) encrypter() tape.Encrypter { return keysvc.Encrypter{Keys: k.Store} }

// keyFile is a key as it goes to media.
func (k tapeKeys) keyFile(f chunkcrypt.Fingerprint) ([]byte, error) {
	file, err := k.File(f)
	if err != nil {
		return nil, err
	}
	return file.Marshal()
}

func newTapeKeyCommand(a *app, o *tapeOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use: "key", Short: "Keys that drives encrypt with",
		Long: `Tapes are encrypted by the drive, with a key of a pool. The key lies in the
configuration for drives, and under its password on every tape: after everything
else was lost, 'key restore' gets it back from a tape, for who knows the password.

Passwords come from PBS_ENCRYPTION_PASSWORD and PBS_NEW_ENCRYPTION_PASSWORD, their
forms _FILE, _FD and _CMD, or the terminal.`,
		Example: `  holdfast tape key create --hint "the usual one"
  holdfast tape key list
  holdfast tape key restore`,
	}
	cmd.AddCommand(newTapeKeyCreateCommand(a, o), newTapeKeyPasswordCommand(a, o), newTapeKeyRestoreCommand(a, o), &cobra.Command{
		Use: "list", Short: "List keys", Long: `Lists the keys by their fingerprints, with the hints to their passwords.`,
		Example: `  holdfast tape key list`, Args: exactly(0),
		RunE: func(*cobra.Command, []string) error { return runTapeKeyList(a, o) },
	}, &cobra.Command{
		Use: "show FINGERPRINT", Short: "Show what is known of a key", Long: `Shows a key without its secret.`,
		Example: `  holdfast tape key show 0e:ab:d4:46:0b:6e:b9:ca:34:50:23:de:e2:b7:78:c7:90:e5:4a:16:83:b9:65:9c:0a:57:ae:19:90:90:15:9b`, Args: exactly(1),
		RunE: func(_ *cobra.Command, args []string) error { return runTapeKeyShow(a, o, args[0]) },
	}, &cobra.Command{
		Use: "paperkey FINGERPRINT", Short: "Print a key for paper",
		Long: `Prints the key under its password, to be kept on paper. 'holdfast tape key restore
--key FILE' takes it from there.`,
		Example: `  holdfast tape key paperkey 0e:ab:d4:46:0b:6e:b9:ca:34:50:23:de:e2:b7:78:c7:90:e5:4a:16:83:b9:65:9c:0a:57:ae:19:90:90:15:9b > key.txt`, Args: exactly(1),
		RunE: func(_ *cobra.Command, args []string) error { return runTapeKeyPaper(a, o, args[0]) },
	}, &cobra.Command{
		Use: "remove FINGERPRINT", Short: "Remove a key",
		Long: `Removes a key. Tapes that are encrypted with it cannot be read until it is
restored.`,
		Example: `  holdfast tape key remove 0e:ab:d4:46:0b:6e:b9:ca:34:50:23:de:e2:b7:78:c7:90:e5:4a:16:83:b9:65:9c:0a:57:ae:19:90:90:15:9b`, Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.withKey(a, args[0], func(k tapeKeys, f chunkcrypt.Fingerprint) error { return k.Remove(cmd.Context(), f, "") })
		},
	})
	return cmd
}

// withKey opens the keys and reads a fingerprint.
func (o *tapeOptions) withKey(a *app, text string, work func(tapeKeys, chunkcrypt.Fingerprint) error) error {
	f, err := chunkcrypt.ParseFingerprint(text)
	if err != nil {
		return usage(err)
	}
	d, _, err := o.dirs(a)
	if err != nil {
		return err
	}
	return work(openTapeKeys(d), f)
}

// tapeKeyJSON is a key, with the fields of the calls of PBS.
type tapeKeyJSON struct {
	Fingerprint string `json:"fingerprint"`
	KDF         string `json:"kdf"`
	Created     int64  `json:"created"`
	Modified    int64  `json:"modified"`
	Hint        string `json:"hint,omitempty"`
}

func tapeKeyOf(f *keyfile.File) tapeKeyJSON {
	return tapeKeyJSON{f.Fingerprint.String(), string(f.KDF()), f.Created.Unix(), f.Modified.Unix(), f.Hint}
}

func runTapeKeyList(a *app, o *tapeOptions) error {
	d, _, err := o.dirs(a)
	if err != nil {
		return err
	}
	files, _, err := openTapeKeys(d).List()
	if err != nil {
		return err
	}
	out := []tapeKeyJSON{}
	t := ui.Table{Columns: []ui.Column{{Title: "FINGERPRINT"}, {Title: "HINT"}}}
	for _, f := range files {
		out = append(out, tapeKeyOf(f))
		t.Add(f.Fingerprint.String(), f.Hint)
	}
	return a.print(out, func() error { return a.table(&t) })
}

func runTapeKeyShow(a *app, o *tapeOptions, text string) error {
	return o.withKey(a, text, func(k tapeKeys, f chunkcrypt.Fingerprint) error {
		file, err := k.File(f)
		if err != nil {
			return err
		}
		one := tapeKeyOf(file)
		return a.print(one, func() error {
			return a.printf("fingerprint  %s\nkdf          %s\ncreated      %s\nmodified     %s\nhint         %s\n",
				one.Fingerprint, one.KDF, a.when(&one.Created), a.when(&one.Modified), one.Hint)
		})
	})
}

func runTapeKeyPaper(a *app, o *tapeOptions, text string) error {
	return o.withKey(a, text, func(k tapeKeys, f chunkcrypt.Fingerprint) error {
		file, err := k.File(f)
		if err != nil {
			return err
		}
		js, err := file.MarshalIndent()
		if err != nil {
			return err
		}
		return a.print(map[string]string{"key": string(js)}, func() error {
			return a.printf("-----BEGIN PROXMOX BACKUP KEY-----\n%s\n-----END PROXMOX BACKUP KEY-----\n", js)
		})
	})
}

func newTapeKeyCreateCommand(a *app, o *tapeOptions) *cobra.Command {
	var w keyWriteOptions
	cmd := &cobra.Command{
		Use: "create", Short: "Create a key",
		Long: `Creates a random key under a password. 'holdfast tape pool update POOL --encrypt
FINGERPRINT' has a pool use it.`,
		Example: `  holdfast tape key create --hint "the usual one"`, Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return runTapeKeyCreate(cmd.Context(), a, o, w) },
	}
	w.flags(cmd)
	return cmd
}

// newLock asks for a new password.
func (a *app) newLock(ctx context.Context, w keyWriteOptions, env string) (keys.Lock, error) {
	kdf, err := w.parse()
	if err != nil {
		return keys.Lock{}, err
	}
	if kdf == keyfile.KDFNone {
		return keys.Lock{}, usagef("a tape key is written to tapes and needs a password: --kdf scrypt or pbkdf2")
	}
	pw, err := a.secrets().GetNew(ctx, env, "new password of the tape key")
	return keys.Lock{KDF: kdf, Password: pw.Reveal(), Hint: w.hint}, err
}

func runTapeKeyCreate(ctx context.Context, a *app, o *tapeOptions, w keyWriteOptions) error {
	d, _, err := o.dirs(a)
	if err != nil {
		return err
	}
	l, err := a.newLock(ctx, w, "ENCRYPTION_PASSWORD")
	if err != nil {
		return err
	}
	if err := d.Make(); err != nil {
		return err
	}
	f, err := openTapeKeys(d).Create(ctx, l, a.Now())
	if err != nil {
		return err
	}
	return a.print(map[string]string{"fingerprint": f.String()}, func() error { return a.printf("%s\n", f) })
}

func newTapeKeyPasswordCommand(a *app, o *tapeOptions) *cobra.Command {
	var w keyWriteOptions
	var force bool
	cmd := &cobra.Command{
		Use: "change-passphrase FINGERPRINT", Short: "Put a key under another password",
		Long: `Changes the password of a key. On tapes that were written before it stays under
the old one. With --force the old password is not asked for: the key is taken
from the file for drives.`,
		Example: `  holdfast tape key change-passphrase 0e:ab:d4:46:0b:6e:b9:ca:34:50:23:de:e2:b7:78:c7:90:e5:4a:16:83:b9:65:9c:0a:57:ae:19:90:90:15:9b`, Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return o.withKey(a, args[0], func(k tapeKeys, f chunkcrypt.Fingerprint) error {
				var old []byte
				if !force {
					pw, err := a.secrets().Get(ctx, "ENCRYPTION_PASSWORD", "present password of the tape key")
					if err != nil {
						return err
					}
					old = pw.Reveal()
				}
				l, err := a.newLock(ctx, w, "NEW_ENCRYPTION_PASSWORD")
				if err != nil {
					return err
				}
				return k.ChangePassword(ctx, f, "", old, l, a.Now())
			})
		},
	}
	w.flags(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "do not ask for the old password")
	return cmd
}

func newTapeKeyRestoreCommand(a *app, o *tapeOptions) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use: "restore", Short: "Get a key back from a tape, or from paper",
		Long: `Takes the key of the media set of the medium in the drive from its label, under
the password that it had when the medium was labelled; or from a file that
'paperkey' has made.`,
		Example: `  holdfast tape key restore
  holdfast tape key restore --key key.txt`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return runTapeKeyRestore(cmd.Context(), a, o, path) },
	}
	cmd.Flags().StringVar(&path, "key", "", "a file with the key, instead of a tape")
	return cmd
}

func runTapeKeyRestore(ctx context.Context, a *app, o *tapeOptions, path string) error {
	d, _, err := o.dirs(a)
	if err != nil {
		return err
	}
	var text []byte
	if path != "" {
		if text, err = readSmall(path, keyfile.MaxSize); err != nil {
			return err
		}
	} else if text, err = keyOnTape(ctx, a, o); err != nil {
		return err
	}
	pw, err := a.secrets().Get(ctx, "ENCRYPTION_PASSWORD", "password of the tape key")
	if err != nil {
		return err
	}
	if err := d.Make(); err != nil {
		return err
	}
	f, err := openTapeKeys(d).Import(ctx, text, pw.Reveal())
	if errors.Is(err, keys.ErrExists) {
		return fmt.Errorf("nothing to do: %w", err)
	}
	if err != nil {
		return err
	}
	return a.print(map[string]string{"fingerprint": f.String()}, func() error { return a.printf("key %s restored\n", f) })
}

// keyOnTape reads the key from the medium in the drive.
func keyOnTape(ctx context.Context, a *app, o *tapeOptions) (text []byte, err error) {
	err = o.withWorld(ctx, a, func(_ *tapeSite, w *job.World) error {
		l, err := w.ReadLabel(ctx, false)
		if err == nil && l.Key == nil {
			err = fmt.Errorf("medium %s has no key on it: it is not encrypted", l.Medium.Text)
		}
		text = l.Key
		return err
	})
	return text, err
}
