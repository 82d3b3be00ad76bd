// Package fetch reads archives of a snapshot as plain data that is proven to
// be what was backed up.
//
// [Open] opens the index of a disk image, [OpenDynamic] that of a file archive,
// after the manifest's signature and the key have been compared; a [Reader] turns
// digests into plain chunks, a [Stream] a file archive into a stream. Every
// chunk is checked in full each time: CRC, authentication tag, length, digest,
// and that it is encrypted exactly if the manifest says so. What does not pass
// is a [*repo.CorruptError], and no byte of it is handed out as good.
//
// # Keys
//
// A key that is not the one of the snapshot gives [manifest.ErrWrongKey] before
// any chunk is read; a key that is missing gives [blob.ErrNoKey].
package fetch

import (
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Image is the index of a disk image with what is needed to read it. It is
// safe for concurrent use.
type Image struct {
	*fidx.Index
	Name names.Archive
	Key  *chunkcrypt.Key // of the chunks; nil when they are plain

	zero, zeroLast digest.Digest // of the slots and of the last, if that is short
	closer         io.Closer
}

// Open opens the index of an image. key may be nil, or be given without need.
func Open(snap repo.Snapshot, name names.Archive, key *chunkcrypt.Key) (*Image, error) {
	if name.Kind() != names.Fidx {
		return nil, fmt.Errorf("archive %s is not a disk image: name one that ends in .img or .img.fidx", name)
	}
	chunkKey, err := keyFor(snap, name, key)
	if err != nil {
		return nil, err
	}
	idx, closer, err := snap.OpenFixed(name)
	if err != nil {
		return nil, fmt.Errorf("archive %s of %s: %w", name, snap.Name(), err)
	}
	x := &Image{Index: idx, Name: name, Key: chunkKey, closer: closer}
	if err := x.prepare(); err != nil {
		_ = closer.Close()
		return nil, fmt.Errorf("archive %s of %s: %w", name, snap.Name(), err)
	}
	return x, nil
}

// prepare computes how zeros are called.
func (x *Image) prepare() error {
	if x.ChunkSize > blob.MaxChunk {
		return &repo.CorruptError{
			What: "index " + string(x.Name),
			Err:  fmt.Errorf("chunk size %d, the largest is %d", x.ChunkSize, blob.MaxChunk),
		}
	}
	buf, err := pagebuf.New(int(x.ChunkSize)) // only read: takes no memory
	if err != nil {
		return err
	}
	defer buf.Free()
	x.zero = Digest(x.Key, buf.Bytes())
	x.zeroLast = x.zero
	if rest := x.Size % x.ChunkSize; rest != 0 {
		x.zeroLast = Digest(x.Key, buf.Bytes()[:rest])
	}
	return nil
}

// Close closes the index.
func (x *Image) Close() error { return x.closer.Close() }

// Length returns the plain bytes of slot i.
func (x *Image) Length(i int) int {
	start, end := x.Bounds(i)
	return int(end - start)
}

// IsZero reports whether slot i is all zero if it has the digest d.
func (x *Image) IsZero(i int, d digest.Digest) bool {
	if i == x.Count()-1 {
		return d == x.zeroLast
	}
	return d == x.zero
}

// Digest names plain data, with the key if there is one.
func Digest(key *chunkcrypt.Key, plain []byte) digest.Digest {
	if key != nil {
		return key.Digest(plain)
	}
	return digest.Of(plain)
}

// Digest2 names two pieces of plain data, in less time than twice [Digest].
func Digest2(key *chunkcrypt.Key, a, b []byte) (digest.Digest, digest.Digest) {
	if key != nil {
		return key.Digest2(a, b)
	}
	return digest.Of2(a, b)
}

// CheckKey compares a key with the manifest of a snapshot: fingerprint and
// signature. An unsigned manifest passes.
func CheckKey(snap repo.Snapshot, key *chunkcrypt.Key) error {
	m := snap.Manifest()
	err := m.Verify(key)
	if err == nil && !m.Signed() {
		var print chunkcrypt.Fingerprint
		if print, err = m.KeyFingerprint(); err == nil && !print.IsZero() && print != key.Fingerprint() {
			err = fmt.Errorf("%w: it has fingerprint %s, the given key %s", manifest.ErrWrongKey, print.Short(), key.Fingerprint().Short())
		}
	}
	switch {
	case errors.Is(err, manifest.ErrWrongKey):
		return fmt.Errorf("snapshot %s: %w: name the key file that belongs to it", snap.Name(), err)
	case errors.Is(err, manifest.ErrSignature):
		return fmt.Errorf("snapshot %s: %w: its list of archives was changed by someone without the key; do not trust it", snap.Name(), err)
	case err != nil:
		return fmt.Errorf("snapshot %s: %w", snap.Name(), err)
	}
	return nil
}

// keyFor returns the key that the chunks of an archive need.
func keyFor(snap repo.Snapshot, name names.Archive, key *chunkcrypt.Key) (*chunkcrypt.Key, error) {
	f, ok := snap.Manifest().File(string(name))
	if !ok {
		return nil, fmt.Errorf("snapshot %s has no archive %s: %w", snap.Name(), name, repo.ErrNotFound)
	}
	if key != nil {
		if err := CheckKey(snap, key); err != nil {
			return nil, err
		}
	}
	if f.CryptMode != manifest.ModeEncrypt {
		return nil, nil
	}
	if key == nil {
		return nil, fmt.Errorf("archive %s of %s: %w: name the key file%s", name, snap.Name(), blob.ErrNoKey, which(snap.Manifest()))
	}
	return key, nil
}

// which says which key is meant, if the manifest does.
func which(m *manifest.Manifest) string {
	print, err := m.KeyFingerprint()
	if err != nil || print.IsZero() {
		return ""
	}
	return " with fingerprint " + print.Short()
}

// Blob returns the content of a small file. Its own magic says whether it is
// encrypted: the copy of a key for the master key is plain in an encrypted
// backup.
func Blob(snap repo.Snapshot, name names.Archive, key *chunkcrypt.Key) ([]byte, error) {
	if name.Kind() != names.Blob {
		return nil, fmt.Errorf("archive %s is not a small file", name)
	}
	if key != nil {
		if err := CheckKey(snap, key); err != nil {
			return nil, err
		}
	}
	raw, err := snap.Blob(name)
	if err != nil {
		return nil, fmt.Errorf("archive %s of %s: %w", name, snap.Name(), err)
	}
	dec, err := blob.NewDecoder(key)
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	plain, err := dec.Append(nil, raw, blob.MaxPlain)
	switch {
	case errors.Is(err, blob.ErrNoKey):
		return nil, fmt.Errorf("archive %s of %s: %w: name the key file%s", name, snap.Name(), err, which(snap.Manifest()))
	case err != nil:
		return nil, fmt.Errorf("archive %s of %s: %w", name, snap.Name(), &repo.CorruptError{What: "blob " + string(name), Err: err})
	}
	return plain, nil
}
