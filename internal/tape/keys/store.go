package keys

import (
	"bytes"
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/keyfile"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/tape"
)

// ErrExists is wrapped for a key that is there already.
var ErrExists = errors.New("the key is there already")

const rounds = 10 // of PBKDF2: the key is no password

// Store is the directory with the keys. It has no state and is safe for concurrent
// use.
type Store struct{ dir confdir.Dir }

var _ tape.Keys = Store{}

// New returns the keys in the directory of a server's configuration.
func New(dir confdir.Dir) Store { return Store{dir} }

// DataKey implements [tape.Keys].
func (s Store) DataKey(k tape.KeyOf) (tape.DataKey, error) {
	keys, err := s.plain()
	if err != nil {
		return tape.DataKey{}, err
	}
	key := find(keys, k.Fingerprint)
	if key == nil {
		return tape.DataKey{}, fmt.Errorf("tape key %s: %w; import it, or restore it from a tape", k.Fingerprint, repo.ErrNotFound)
	}
	return derive(key, k.MediaSet[:])
}

func derive(key *chunkcrypt.Key, salt []byte) (tape.DataKey, error) {
	raw := key.Reveal()
	defer clear(raw[:])
	d, err := pbkdf2.Key(sha256.New, string(raw[:]), salt, rounds, chunkcrypt.KeySize)
	if err != nil {
		return tape.DataKey{}, err
	}
	defer clear(d)
	return tape.NewDataKey([chunkcrypt.KeySize]byte(d)), nil
}

func (s Store) plain() ([]*chunkcrypt.Key, error) {
	js, err := s.dir.Load(confdir.TapeKeys)
	if err != nil {
		return nil, err
	}
	defer clear(js)
	keys, err := parsePlain(js)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", confdir.TapeKeys.Name, err)
	}
	return keys, nil
}

// List returns all keys under their passwords, and the digest of their file.
func (s Store) List() ([]*keyfile.File, confdir.Digest, error) {
	js, err := s.dir.Load(confdir.TapeKeyFiles)
	if err != nil {
		return nil, confdir.Digest{}, err
	}
	files, err := parseFiles(js)
	if err != nil {
		return nil, confdir.Digest{}, fmt.Errorf("%s: %w", confdir.TapeKeyFiles.Name, err)
	}
	return files, confdir.DigestOf(js), nil
}

// File returns a key under its password. Its Marshal is what goes to a media-set
// label, its MarshalIndent what goes to paper.
func (s Store) File(f chunkcrypt.Fingerprint) (*keyfile.File, error) {
	files, _, err := s.List()
	if err != nil {
		return nil, err
	}
	i := at(files, f)
	if i < 0 {
		return nil, missing(f)
	}
	return files[i], nil
}

func missing(f chunkcrypt.Fingerprint) error {
	return fmt.Errorf("tape key %s: %w", f, repo.ErrNotFound)
}

// Lock is how a key is kept under its password.
type Lock struct {
	KDF      keyfile.KDF // not KDFNone
	Password []byte
	Hint     string
}

// Create makes a new key.
func (s Store) Create(ctx context.Context, l Lock, now time.Time) (chunkcrypt.Fingerprint, error) {
	var raw [chunkcrypt.KeySize]byte
	_, _ = rand.Read(raw[:]) // never fails
	defer clear(raw[:])
	k, err := chunkcrypt.New(raw)
	if err != nil {
		return chunkcrypt.Fingerprint{}, err
	}
	f, err := l.close(k, now, now)
	if err != nil {
		return chunkcrypt.Fingerprint{}, err
	}
	return k.Fingerprint(), s.insert(ctx, k, f)
}

func (l Lock) close(k *chunkcrypt.Key, created, now time.Time) (*keyfile.File, error) {
	if l.KDF == keyfile.KDFNone {
		return nil, errors.New("a tape key needs a password, since it is written to tapes; use kdf scrypt")
	}
	text, err := keyfile.Store(k, created, l.KDF, l.Password, l.Hint, now, rand.Reader)
	if err != nil {
		return nil, err
	}
	return keyfile.Parse(text)
}

// Import takes a key from a key file: from the media-set label of a tape, from
// paper, or as it was exported. It stays under its password.
func (s Store) Import(ctx context.Context, keyFile, password []byte) (chunkcrypt.Fingerprint, error) {
	f, err := keyfile.Parse(fromText(keyFile))
	if err != nil {
		return chunkcrypt.Fingerprint{}, err
	}
	if f.KDF() == keyfile.KDFNone {
		return chunkcrypt.Fingerprint{}, fmt.Errorf("%w: it has no password, and a tape key needs one", keyfile.ErrFormat)
	}
	k, created, err := f.Unlock(password)
	if err == nil && f.Fingerprint.IsZero() { // as in very old files
		f, err = Lock{f.KDF(), password, f.Hint}.close(k, created, f.Modified)
	}
	if err != nil {
		return chunkcrypt.Fingerprint{}, err
	}
	return k.Fingerprint(), s.insert(ctx, k, f)
}

// The lines around a key on paper.
const (
	begin = "-----BEGIN PROXMOX BACKUP KEY-----"
	end   = "-----END PROXMOX BACKUP KEY-----"
)

// fromText finds the key file in what is on paper.
func fromText(b []byte) []byte {
	if _, rest, ok := bytes.Cut(b, []byte(begin)); ok {
		if key, _, ok := bytes.Cut(rest, []byte(end)); ok {
			return key
		}
	}
	return b
}

// insert adds a key to both files, the one for drives first: what a crash leaves
// there alone is in nobody's way, and importing the key again puts it right.
func (s Store) insert(ctx context.Context, k *chunkcrypt.Key, f *keyfile.File) error {
	return s.change(ctx, false, func(b *book) error {
		if at(b.files, f.Fingerprint) >= 0 && find(b.plain, f.Fingerprint) != nil {
			return fmt.Errorf("tape key %s: %w", f.Fingerprint, ErrExists)
		}
		if find(b.plain, f.Fingerprint) == nil {
			b.plain = append(b.plain, k)
		}
		if at(b.files, f.Fingerprint) < 0 {
			b.files = append(b.files, f)
		}
		return nil
	})
}

// ChangePassword puts a key under another password. old is its present one; nil
// takes the key from the file for drives, for who may read that and has forgotten
// the password. digest is that of the list, or "". Tapes that were written before
// keep the key under the old password.
func (s Store) ChangePassword(ctx context.Context, f chunkcrypt.Fingerprint, digest string, old []byte, l Lock, now time.Time) error {
	return s.change(ctx, false, func(b *book) error {
		if err := b.digest.Check(digest); err != nil {
			return err
		}
		i := at(b.files, f)
		if i < 0 {
			return missing(f)
		}
		k, created := find(b.plain, f), b.files[i].Created
		if old != nil {
			var err error
			if k, created, err = b.files[i].Unlock(old); err != nil {
				return err
			}
		}
		if k == nil {
			return fmt.Errorf("tape key %s is known under its password only; give that", f)
		}
		var err error
		b.files[i], err = l.close(k, created, now)
		return err
	})
}

// Remove removes a key from both files. Tapes that are encrypted with it cannot be
// read until it is imported again. digest is that of the list, or "".
func (s Store) Remove(ctx context.Context, f chunkcrypt.Fingerprint, digest string) error {
	return s.change(ctx, true, func(b *book) error {
		if err := b.digest.Check(digest); err != nil {
			return err
		}
		i := at(b.files, f)
		if i < 0 && find(b.plain, f) == nil {
			return missing(f)
		}
		b.files = slices.DeleteFunc(b.files, func(k *keyfile.File) bool { return k.Fingerprint == f })
		b.plain = slices.DeleteFunc(b.plain, func(k *chunkcrypt.Key) bool { return k.Fingerprint() == f })
		return nil
	})
}

// book is the content of both files.
type book struct {
	plain  []*chunkcrypt.Key
	files  []*keyfile.File
	digest confdir.Digest // of the second file
}

// change replaces both files, first the one with the keys, or last.
func (s Store) change(ctx context.Context, plainLast bool, edit func(*book) error) error {
	order := []confdir.File{confdir.TapeKeys, confdir.TapeKeyFiles}
	if plainLast {
		slices.Reverse(order)
	}
	return s.dir.ChangeAll(ctx, order, func(old [][]byte) (_ [][]byte, err error) {
		if plainLast {
			old = [][]byte{old[1], old[0]}
		}
		b := &book{digest: confdir.DigestOf(old[1])}
		if b.plain, err = parsePlain(old[0]); err != nil {
			return nil, fmt.Errorf("%s: %w", confdir.TapeKeys.Name, err)
		}
		if b.files, err = parseFiles(old[1]); err != nil {
			return nil, fmt.Errorf("%s: %w", confdir.TapeKeyFiles.Name, err)
		}
		if err := edit(b); err != nil {
			return nil, err
		}
		keys, err := appendPlain(b.plain)
		if err != nil {
			return nil, err
		}
		files, err := appendFiles(b.files)
		if err != nil {
			return nil, err
		}
		if plainLast {
			return [][]byte{files, keys}, nil
		}
		return [][]byte{keys, files}, nil
	})
}
