package datastore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"syscall"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// maxStored is the longest file that can be a chunk: 128 MiB of plain data is
// the limit of the format.
const maxStored = blob.MaxPlain + blob.EncryptedHeaderSize

// hasChunk reports whether a sound chunk is stored and touches it, so that a
// running garbage collection keeps it. buf is scratch space. A chunk that is
// there but damaged or unreadable counts as absent, and the next insert
// replaces it.
func (s *Store) hasChunk(ctx context.Context, d digest.Digest, buf []byte) (ok bool, scratch []byte, err error) {
	name := names.ChunkPath(d)
	if _, err := s.fs.Lstat(name); errors.Is(err, fs.ErrNotExist) { // the common case needs no lock
		return false, buf, nil
	}
	u, err := s.lockChunkDir(ctx, prefixOf(d), vfs.Shared)
	if err != nil {
		return false, buf, fmt.Errorf("chunk %s: %w", d, err)
	}
	defer func() { err = errors.Join(err, u.Unlock()) }()
	raw, err := s.readFile(name, buf, maxStored)
	switch {
	case errors.Is(err, fs.ErrNotExist), replaceable(err):
		return false, buf, nil
	case err != nil:
		return false, buf, fmt.Errorf("chunk %s: %w", d, err)
	}
	if _, err := blob.Check(raw); err != nil {
		return false, raw, nil
	}
	if err := s.fs.Touch(name); err != nil {
		return false, raw, fmt.Errorf("chunk %s: %w", d, err)
	}
	return true, raw, nil
}

// replaceable reports that a stored chunk is of no use as it is: too long, or
// on a bad sector. A session that has the data writes it anew, to another
// place of the disk.
func replaceable(err error) bool { return errors.Is(err, errTooLong) || errors.Is(err, syscall.EIO) }

// putChunk stores an encoded chunk. stored is false when the one that is
// there was kept.
func (s *Store) putChunk(ctx context.Context, d digest.Digest, raw []byte) (stored bool, err error) {
	u, err := s.lockChunkDir(ctx, prefixOf(d), vfs.Shared)
	if err != nil {
		return false, fmt.Errorf("store chunk %s: %w", d, err)
	}
	defer func() {
		if uerr := u.Unlock(); err == nil && uerr != nil {
			err = fmt.Errorf("store chunk %s: %w", d, uerr)
		}
	}()
	keep, err := s.keepStored(d, raw)
	if err != nil {
		return false, fmt.Errorf("store chunk %s: %w", d, err)
	}
	if keep {
		return false, nil
	}
	if err := s.writeChunk(names.ChunkPath(d), raw); err != nil {
		return false, fmt.Errorf("store chunk %s: %w", d, err)
	}
	return true, nil
}

// keepStored decides between the stored chunk and a new encoding of it: a
// sound, smaller or encrypted one stays, and encrypted never replaces plain.
func (s *Store) keepStored(d digest.Digest, raw []byte) (bool, error) {
	name := names.ChunkPath(d)
	info, err := s.fs.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !info.Mode.IsRegular() {
		return false, fmt.Errorf("%s is not a regular file", name)
	}
	old, err := s.readFile(name, nil, maxStored)
	if replaceable(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	was, err := blob.Check(old)
	if err != nil {
		return false, nil // damaged: the new one takes its place
	}
	now, err := blob.ParseHeader(raw)
	if err != nil {
		return false, err
	}
	if now.Kind.Encrypted() && !was.Kind.Encrypted() {
		return false, fmt.Errorf("the stored chunk is not encrypted, and an encrypted one may not replace it")
	}
	if !now.Kind.Encrypted() && len(raw) < len(old) {
		return false, nil
	}
	return true, s.fs.Touch(name)
}

// writeChunk puts raw at name in one step, durable at once only at SyncFile.
func (s *Store) writeChunk(name string, raw []byte) (err error) {
	tmp, err := s.tempName(name)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreMissing(s.fs.Remove(tmp)))
		}
	}()
	f, err := s.fs.Create(tmp, filePerm)
	if errors.Is(err, fs.ErrNotExist) { // a store with lazy chunk directories
		if err := makeDir(s.fs, path.Dir(name), chunkPerm); err != nil {
			return err
		}
		f, err = s.fs.Create(tmp, filePerm)
	}
	if err != nil {
		return err
	}
	if _, err := f.Write(raw); err != nil {
		return errors.Join(err, f.Close())
	}
	if s.opt.Sync == SyncFile {
		if err := f.Sync(); err != nil {
			return errors.Join(err, f.Close())
		}
	} else {
		f.StartWriteback()
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := s.fs.Rename(tmp, name); err != nil {
		return err
	}
	if s.opt.Sync != SyncFile {
		return nil
	}
	if err := s.fs.SyncDir(path.Dir(name)); err != nil {
		return err
	}
	return s.fs.SyncDir(names.ChunkDir) // the directory may be new
}

// readChunk appends the stored form of a chunk to buf[:0], unchecked. Its
// errors wrap repo.ErrChunkMissing, hold a *repo.CorruptError, or are the file
// system's own.
func (s *Store) readChunk(d digest.Digest, buf []byte) ([]byte, error) {
	raw, err := s.readFile(names.ChunkPath(d), buf, maxStored)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return buf[:0], fmt.Errorf("%w: %s", repo.ErrChunkMissing, d)
	case errors.Is(err, errTooLong):
		return buf[:0], &repo.CorruptError{What: "chunk " + d.String(), Err: err}
	case err != nil:
		return buf[:0], fmt.Errorf("read chunk %s: %w", d, err)
	}
	return raw, nil
}

// setAside renames a damaged chunk, so that the next backup that has the data
// stores it again. A name is free unless there are ten already; the last is
// then reused. check is asked under the lock, for a backup may have put a sound
// chunk there since the damage was seen; sound reports that.
func (s *Store) setAside(ctx context.Context, d digest.Digest, check func() error) (sound bool, err error) {
	u, err := s.lockChunkDir(ctx, prefixOf(d), vfs.Exclusive)
	if err != nil {
		return false, fmt.Errorf("set chunk %s aside: %w", d, err)
	}
	defer func() { err = errors.Join(err, u.Unlock()) }()
	now := check()
	if _, damaged := errors.AsType[*repo.CorruptError](now); !damaged {
		return now == nil, nil
	}
	to := names.BadChunkPath(d, names.MaxBad)
	for n := range names.MaxBad {
		there, err := exists(s.fs, names.BadChunkPath(d, n))
		if err != nil {
			return false, fmt.Errorf("set chunk %s aside: %w", d, err)
		}
		if !there {
			to = names.BadChunkPath(d, n)
			break
		}
	}
	if err := s.markLost(d); err != nil {
		return false, fmt.Errorf("set chunk %s aside: %w", d, err)
	}
	if err := s.fs.Rename(names.ChunkPath(d), to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("set chunk %s aside: %w", d, err)
	}
	return false, nil
}

func prefixOf(d digest.Digest) uint16 { return uint16(d[0])<<8 | uint16(d[1]) }
