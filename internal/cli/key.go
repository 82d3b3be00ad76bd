package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/keyfile"
	"github.com/holdfast-backup/holdfast/internal/keystore"
	"github.com/holdfast-backup/holdfast/internal/secret"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

func newKeyCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Create and manage encryption keys",
		Long: `An encryption key is a small file, best protected by a password. Whoever loses it
loses the backups: keep a copy elsewhere, on paper ('key paperkey') or with the
help of a master key, whose public half puts a copy of the key into every
backup and whose private half stays in a safe.

Without a path the commands use ~/.config/holdfast/encryption-key.json, or
~/.config/proxmox-backup/encryption-key.json if only that one exists. Passwords
come from PBS_ENCRYPTION_PASSWORD, its forms _FILE, _FD and _CMD, or the
terminal.`,
		Example: `  holdfast key create
  holdfast key show
  holdfast key paperkey --output-format html > key.html
  holdfast key create-master-key`,
	}
	cmd.AddCommand(
		newKeyCreateCommand(a), newKeyShowCommand(a), newKeyChangeCommand(a), newKeyPaperCommand(a),
		newMasterCreateCommand(a), newMasterImportCommand(a), newMasterShowCommand(a), newMasterRecoverCommand(a),
	)
	return cmd
}

// keyWriteOptions say how a key file is protected.
type keyWriteOptions struct {
	path string
	kdf  string
	hint string
}

func (o *keyWriteOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.kdf, "kdf", string(keyfile.KDFScrypt), "how the password protects the key: scrypt, pbkdf2, or none for no password")
	f.StringVar(&o.hint, "hint", "", "a hint to the password, readable by everybody who has the file")
	complete(cmd, "kdf", cobra.FixedCompletions([]string{"none", "pbkdf2", "scrypt"}, noFiles))
}

// parse checks the options before anybody is asked for a password.
func (o keyWriteOptions) parse() (keyfile.KDF, error) {
	kdf, err := keyfile.ParseKDF(o.kdf)
	if err != nil {
		return "", usage(fmt.Errorf("--kdf: %w", err))
	}
	if err := keyfile.CheckHint(o.hint); err != nil {
		return "", usage(fmt.Errorf("--hint: %w", err))
	}
	if kdf == keyfile.KDFNone && o.hint != "" {
		return "", usagef("--hint needs a password, and --kdf none has none")
	}
	return kdf, nil
}

// keyPath is the argument, or the default place of an existing key.
func (a *app) keyPath(args []string) (string, error) {
	if len(args) == 1 {
		return args[0], nil
	}
	if path := a.defaultFile(keyName); path != "" {
		return path, nil
	}
	return "", hint(usagef("no key file is named and there is no default one"), "name the file; 'holdfast key create' makes one")
}

// newPath is the argument, or the default place of a new file.
func (a *app) newPath(args []string, name string) (string, error) {
	if len(args) == 1 {
		return args[0], nil
	}
	dirs := a.configDirs()
	if dirs == nil {
		return "", usagef("neither HOME nor XDG_CONFIG_HOME is set: name the file")
	}
	path := filepath.Join(dirs[0], name)
	if err := keystore.MakeDir(dirs[0]); err != nil {
		return "", notWritten(path, "was not written", err)
	}
	return path, nil
}

func newKeyCreateCommand(a *app) *cobra.Command {
	var o keyWriteOptions
	cmd := &cobra.Command{
		Use:   "create [FILE]",
		Short: "Create an encryption key",
		Long: `Creates a random key and writes it to FILE, which must not exist. Backups find the
key in the default place by themselves, elsewhere with --keyfile.`,
		Example: `  holdfast key create
  holdfast key create vm.json --hint "the usual one"
  PBS_ENCRYPTION_PASSWORD_FILE=pw holdfast key create vm.json
  holdfast key create unprotected.json --kdf none`,
		Args: between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.path, err = a.newPath(args, keyName); err != nil {
				return err
			}
			return runKeyCreate(cmd.Context(), a, o)
		},
	}
	o.flags(cmd)
	return cmd
}

func runKeyCreate(ctx context.Context, a *app, o keyWriteOptions) error {
	kdf, err := o.parse()
	if err != nil {
		return err
	}
	if _, err := os.Lstat(o.path); err == nil { // before a password is typed
		return existing(o.path)
	}
	var raw [chunkcrypt.KeySize]byte
	if err := a.random(raw[:]); err != nil {
		return err
	}
	key, err := chunkcrypt.New(raw)
	clear(raw[:])
	if err != nil {
		return err
	}
	return a.storeKey(ctx, o, kdf, key, a.Now(), "ENCRYPTION_PASSWORD", false)
}

// storeKey writes a key file under a password that is asked for.
func (a *app) storeKey(ctx context.Context, o keyWriteOptions, kdf keyfile.KDF, key *chunkcrypt.Key, created time.Time, env string, replace bool) error {
	var pw secret.Secret
	var err error
	if kdf != keyfile.KDFNone {
		if pw, err = a.secrets().GetNew(ctx, env, "new password of the encryption key "+o.path); err != nil {
			return err
		}
	}
	text, err := keyfile.Store(key, created, kdf, pw.Reveal(), o.hint, a.Now(), a.Rand)
	if err != nil {
		return err
	}
	write := a.saveKey
	if replace {
		write = a.replaceKey
	}
	if err := write(o.path, text); err != nil {
		return err
	}
	print := key.Fingerprint().String()
	return a.print(map[string]string{"path": o.path, "fingerprint": print}, func() error {
		return a.printf("key %s is in %s\nkeep a copy elsewhere: without it the backups cannot be read\n", key.Fingerprint().Short(), o.path)
	})
}

func newKeyShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "show [FILE]",
		Aliases: []string{"info"},
		Short:   "Show what a key file says about its key",
		Long: `Prints the fingerprint of a key, when it was created and changed, how it is
protected, and the hint to its password. The key itself is not shown, and no
password is needed.`,
		Example: `  holdfast key show
  holdfast key show vm.json --output-format json`,
		Args: between(0, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := a.keyPath(args)
			if err != nil {
				return err
			}
			return runKeyShow(a, path)
		},
	}
}

// keyJSON describes a key file in the words of the existing client.
type keyJSON struct {
	Path        string `json:"path"`
	KDF         string `json:"kdf"`
	Created     int64  `json:"created"`
	Modified    int64  `json:"modified"`
	Fingerprint string `json:"fingerprint,omitempty"`
	Hint        string `json:"hint,omitempty"`
}

func runKeyShow(a *app, path string) error {
	k, _, err := a.readKey(keyOptions{keyfile: path, keyfd: -1})
	if err != nil {
		return err
	}
	f := k.file
	out := keyJSON{Path: path, KDF: string(f.KDF()), Created: f.Created.Unix(), Modified: f.Modified.Unix(), Hint: f.Hint}
	if f.Fingerprint.IsZero() && f.KDF() == keyfile.KDFNone { // an old file: compute it
		if key, _, err := f.Unlock(nil); err == nil {
			out.Fingerprint = key.Fingerprint().String()
		}
	} else if !f.Fingerprint.IsZero() {
		out.Fingerprint = f.Fingerprint.String()
	}
	return a.print(out, func() error {
		t := ui.Table{Columns: []ui.Column{{Title: "File"}, {Title: path}}}
		t.Add("Fingerprint", out.Fingerprint)
		t.Add("Password", map[keyfile.KDF]string{
			keyfile.KDFNone: "none: whoever has the file has the key", keyfile.KDFScrypt: "scrypt", keyfile.KDFPBKDF2: "PBKDF2",
		}[f.KDF()])
		t.Add("Created", f.Created.Format(time.RFC3339))
		t.Add("Changed", f.Modified.Format(time.RFC3339))
		if f.Hint != "" {
			t.Add("Hint", f.Hint)
		}
		return t.Write(a.Stdout, ui.Palette{})
	})
}

func newKeyChangeCommand(a *app) *cobra.Command {
	var o keyWriteOptions
	cmd := &cobra.Command{
		Use:   "change-passphrase [FILE]",
		Short: "Change the password of an encryption key",
		Long: `Protects a key by another password. The key stays the same, so all backups remain
readable. The file is replaced at once, never half: whatever happens, it holds
the key under the old password or under the new one. It keeps its owner and
group; others lose the permission to read it. If FILE is a symbolic link, the
file that it leads to is replaced.

The old password comes from PBS_ENCRYPTION_PASSWORD, the new one from
PBS_NEW_ENCRYPTION_PASSWORD, or both from the terminal.`,
		Example: `  holdfast key change-passphrase
  holdfast key change-passphrase vm.json --kdf scrypt --hint "the new one"`,
		Args: between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.path, err = a.keyPath(args); err != nil {
				return err
			}
			return runKeyChange(cmd.Context(), a, o)
		},
	}
	o.flags(cmd)
	return cmd
}

func runKeyChange(ctx context.Context, a *app, o keyWriteOptions) error {
	kdf, err := o.parse()
	if err != nil {
		return err
	}
	k, _, err := a.readKey(keyOptions{keyfile: o.path, keyfd: -1})
	if err != nil {
		return err
	}
	key, created, err := a.unlock(ctx, k)
	if err != nil {
		return err
	}
	return a.storeKey(ctx, o, kdf, key, created, "NEW_ENCRYPTION_PASSWORD", true)
}

// random fills b.
func (a *app) random(b []byte) error {
	for len(b) > 0 {
		n, err := a.Rand.Read(b)
		if err != nil {
			return fmt.Errorf("random bytes: %w", err)
		}
		b = b[n:]
	}
	return nil
}
