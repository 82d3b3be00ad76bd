package cli

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/keyfile"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/keystore"
	"github.com/holdfast-backup/holdfast/internal/secret"
	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/spf13/cobra"
)

// keyOptions say which encryption key is used, and for what.
type keyOptions struct {
	keyfile   string
	keyfd     int    // -1: none
	cryptMode string // backup only
	masterPub string // backup only
}

const (
	keyName       = "encryption-key.json"
	masterKeyName = "master-public.pem"
	maxKeyFile    = keystore.MaxSize
)

// readFlags adds the flags of commands that read backups.
func (o *keyOptions) readFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.keyfile, "keyfile", "", "the file with the encryption key")
	f.IntVar(&o.keyfd, "keyfd", -1, "read the encryption key from this open descriptor")
}

// writeFlags adds those of commands that write them.
func (o *keyOptions) writeFlags(cmd *cobra.Command) {
	o.readFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&o.cryptMode, "crypt-mode", "", "encrypt, sign-only or none (default: encrypt if there is a key)")
	f.StringVar(&o.masterPub, "master-pubkey-file", "", "store the key in the backup too, encrypted to this public master key")
	complete(cmd, "crypt-mode", cobra.FixedCompletions([]string{"encrypt", "sign-only", "none"}, noFiles))
}

func (o keyOptions) given() bool { return o.keyfile != "" || o.keyfd >= 0 }

// defaultFile returns the first file of that name in the directories where
// keys are looked for, "" when there is none.
func (a *app) defaultFile(name string) string {
	for _, dir := range a.configDirs() {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
}

// configDirs are ours and that of the existing client.
func (a *app) configDirs() []string {
	base := a.getenv("XDG_CONFIG_HOME")
	if base == "" {
		home := a.getenv("HOME")
		if home == "" {
			return nil
		}
		base = filepath.Join(home, ".config")
	}
	return []string{filepath.Join(base, "holdfast"), filepath.Join(base, "proxmox-backup")}
}

// lockedKey is a key file that was read and parsed.
type lockedKey struct {
	where string
	file  *keyfile.File
}

// readKey reads the key that the options name, or the default one; ok is false
// when there is none.
func (a *app) readKey(o keyOptions) (k lockedKey, ok bool, err error) {
	if o.keyfile != "" && o.keyfd >= 0 {
		return k, false, usagef("--keyfile and --keyfd exclude each other")
	}
	var text []byte
	switch path := o.keyfile; {
	case o.keyfd >= 0:
		k.where = fmt.Sprintf("descriptor %d", o.keyfd)
		text, err = readDescriptor(o.keyfd)
	default:
		if path == "" {
			if path = a.defaultFile(keyName); path == "" {
				return k, false, nil
			}
		}
		k.where = path
		text, err = readKeyFile(path)
	}
	if err != nil {
		return k, false, fmt.Errorf("key file: %w", err)
	}
	if k.file, err = keyfile.Parse(text); err != nil {
		return k, false, hint(
			fmt.Errorf("%s: %w", k.where, err),
			"'holdfast key create' makes one",
		)
	}
	return k, true, nil
}

func readDescriptor(fd int) ([]byte, error) {
	if fd == 0 {
		return io.ReadAll(io.LimitReader(os.Stdin, maxKeyFile))
	}
	f := os.NewFile(uintptr(fd), fmt.Sprintf("descriptor %d", fd))
	if f == nil {
		return nil, fmt.Errorf("descriptor %d is not open", fd)
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, maxKeyFile))
}

// readKeyFile reads a key or PEM file, through links and from pipes too.
func readKeyFile(path string) ([]byte, error) {
	b, err := keystore.Load(path)
	switch {
	case errors.Is(err, keystore.ErrTooLarge):
		return nil, hint(fmt.Errorf("%s is too large for a key file: it has more than %d bytes", path, keystore.MaxSize), "check the path")
	case errors.Is(err, vfs.ErrNotRegular):
		return nil, hint(fmt.Errorf("%s is a directory, not a file", path), "name the key file in it")
	case err != nil:
		return nil, pathError(err)
	}
	return b, nil
}

// readSmall reads a regular file of at most limit bytes.
func readSmall(path string, limit int64) ([]byte, error) {
	f, _, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, pathError(err)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, pathError(err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s is longer than %d bytes", path, limit)
	}
	return b, nil
}

// unlock opens a key file, with a password if it needs one.
func (a *app) unlock(ctx context.Context, k lockedKey) (*chunkcrypt.Key, time.Time, error) {
	key, created, err := k.file.Unlock(nil)
	if !errors.Is(err, keyfile.ErrNeedPassword) {
		return key, created, wrapKey(k, err)
	}
	what := "password of the encryption key " + k.where
	pw, err := a.secrets().Get(ctx, "ENCRYPTION_PASSWORD", what)
	if err != nil {
		return nil, time.Time{}, err
	}
	return a.unlockWith(k, pw)
}

func (a *app) unlockWith(k lockedKey, pw secret.Secret) (*chunkcrypt.Key, time.Time, error) {
	key, created, err := k.file.Unlock(pw.Reveal())
	return key, created, wrapKey(k, err)
}

func wrapKey(k lockedKey, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, keyfile.ErrPassword):
		return mark(err, "the password does not open the encryption key %s", k.where)
	}
	return fmt.Errorf("encryption key %s: %w", k.where, err)
}

// loadKey reads and opens a key that must be there.
func (a *app) loadKey(ctx context.Context, o keyOptions) (*chunkcrypt.Key, error) {
	k, ok, err := a.readKey(o)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, hint(usagef("no encryption key is named and there is no default one"), "pass --keyfile FILE")
	}
	key, _, err := a.unlock(ctx, k)
	return key, err
}

// cryptChoice is what a backup does with keys.
type cryptChoice struct {
	mode    manifest.CryptMode
	key     *chunkcrypt.Key
	created time.Time
	master  *rsa.PublicKey
}

// chooseCrypt follows the rules of the existing client: a key, named or in the
// default place, means encryption, unless the mode says otherwise.
func (a *app) chooseCrypt(ctx context.Context, o keyOptions) (c cryptChoice, err error) {
	c.mode = manifest.ModeNone
	if o.cryptMode != "" {
		if c.mode, err = manifest.ParseCryptMode(o.cryptMode); err != nil {
			return c, usage(fmt.Errorf("--crypt-mode: %w", err))
		}
		if c.mode == manifest.ModeNone {
			if o.given() {
				return c, usagef("--crypt-mode none and a key exclude each other")
			}
			if o.masterPub != "" {
				return c, usagef("--crypt-mode none and --master-pubkey-file exclude each other")
			}
			return c, nil
		}
	}
	k, ok, err := a.readKey(o)
	if err != nil {
		return c, err
	}
	if !ok {
		if o.cryptMode != "" || o.masterPub != "" {
			return c, hint(usagef("encryption is asked for, and there is no key"), "pass --keyfile FILE; 'holdfast key create FILE' makes one")
		}
		return c, nil
	}
	if o.cryptMode == "" {
		c.mode = manifest.ModeEncrypt
	}
	if c.key, c.created, err = a.unlock(ctx, k); err != nil {
		return c, err
	}
	c.master, err = a.masterPublic(o, c.mode)
	return c, err
}

// masterPublic reads the public master key, the default one if none is named.
func (a *app) masterPublic(o keyOptions, mode manifest.CryptMode) (*rsa.PublicKey, error) {
	path := o.masterPub
	if path == "" {
		if path = a.defaultFile(masterKeyName); path == "" || mode != manifest.ModeEncrypt {
			return nil, nil
		}
	}
	b, err := readKeyFile(path)
	if err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	pub, err := keyfile.ParsePublicPEM(b)
	if err != nil {
		return nil, fmt.Errorf("master key %s: %w", path, err)
	}
	return pub, nil
}

// keyFor returns the key that a snapshot is read with, nil when none is needed
// and none fits. The manifest's signature is checked with it.
func (a *app) keyFor(ctx context.Context, o keyOptions, name string, m *manifest.Manifest, encrypted bool) (*chunkcrypt.Key, error) {
	want, err := m.KeyFingerprint()
	if err != nil {
		return nil, err
	}
	k, ok, err := a.readKey(o)
	if err != nil {
		return nil, err
	}
	if !ok {
		if encrypted {
			return nil, hint(
				mark(errRefused, "%s is encrypted%s, and no key is named", name, withKey(want)),
				"pass --keyfile FILE",
			)
		}
		return nil, nil
	}
	must := encrypted || o.given()
	if have := k.file.Fingerprint; !have.IsZero() && !want.IsZero() && have != want {
		if !must {
			return nil, nil // the default key is for other backups
		}
		return nil, wrongKey(name, want, k.where, have)
	}
	if !must && !m.Signed() {
		return nil, nil
	}
	key, _, err := a.unlock(ctx, k)
	if err != nil {
		if _, missing := errors.AsType[*secret.MissingError](err); missing && !must {
			a.warn("the signature of %s is not checked: %v", name, err)
			return nil, nil
		}
		return nil, err
	}
	if have := key.Fingerprint(); !want.IsZero() && have != want {
		return nil, wrongKey(name, want, k.where, have)
	}
	if err := m.Verify(key); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if !m.Signed() {
		a.warn("%s is not signed: its checksums prove nothing about who put it together", name)
	}
	return key, nil
}

func withKey(f chunkcrypt.Fingerprint) string {
	if f.IsZero() {
		return ""
	}
	return " with the key " + f.Short()
}

func wrongKey(name string, want chunkcrypt.Fingerprint, where string, have chunkcrypt.Fingerprint) error {
	return hint(
		mark(errRefused, "wrong key: %s needs the key %s, and %s holds %s", name, want.Short(), where, have.Short()),
		"pass the right one with --keyfile; 'holdfast key show FILE' prints a key's fingerprint",
	)
}
