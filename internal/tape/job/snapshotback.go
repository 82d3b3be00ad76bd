package job

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// maxBlob bounds a file of a snapshot that is no index.
const maxBlob = blob.MaxPlain + blob.EncryptedHeaderSize

// files reads the files of a snapshot from its archive on a tape.
type files struct {
	p        *pxar.Reader
	rest     io.Reader // what the archive is read from
	manifest *manifest.Manifest
	seen     map[names.Archive]bool
}

// openFiles reads the manifest, which must be of the snapshot was.
func openFiles(r io.Reader, was names.Snapshot) (*files, error) {
	p, err := pxar.NewReader(r, nil)
	if err != nil {
		return nil, err
	}
	f := &files{p: p, rest: r, seen: map[names.Archive]bool{}}
	if e, err := p.Next(); err != nil {
		return nil, err
	} else if e.Kind != pxar.Directory {
		return nil, bad("it holds no directory")
	}
	name, size, err := f.entry()
	if err != nil {
		return nil, err
	}
	if name != names.Manifest {
		return nil, bad("it does not begin with the manifest")
	}
	raw, err := f.content(size)
	if err != nil {
		return nil, err
	}
	dec, err := blob.NewDecoder(nil)
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	text, err := dec.Append(nil, raw, maxManifest)
	if err != nil {
		return nil, &repo.CorruptError{What: "manifest", Err: err}
	}
	if f.manifest, err = manifest.Parse(text); err != nil {
		return nil, &repo.CorruptError{What: "manifest", Err: err}
	}
	if !f.manifest.Describes(was) {
		return nil, bad("its manifest is of another snapshot")
	}
	return f, f.manifest.SetRaw("verify_state", nil) // it is about the chunks of another store
}

// maxManifest bounds the text of a manifest.
const maxManifest = 64 << 20

// entry goes to the next file; io.EOF behind the last one, when all of the
// tape file was read and is complete.
func (f *files) entry() (names.Archive, int64, error) {
	e, err := f.p.Next()
	if err != nil && !errors.Is(err, io.EOF) {
		return "", 0, err
	}
	if err != nil || e.Kind == pxar.End {
		if _, err := io.Copy(io.Discard, f.rest); err != nil {
			return "", 0, err
		}
		return "", 0, io.EOF
	}
	name, perr := names.ParseArchive(e.Name)
	switch {
	case e.Kind != pxar.File:
		return "", 0, bad("%q in it is no file", e.Name)
	case perr != nil:
		return "", 0, bad("%v", perr)
	case f.seen[name]:
		return "", 0, bad("it holds %s twice", name)
	}
	f.seen[name] = true
	return name, e.Size, nil
}

// content is the file that entry went to, if it is a blob.
func (f *files) content(size int64) ([]byte, error) {
	if size > maxBlob {
		return nil, bad("a file of %d bytes in it", size)
	}
	raw := make([]byte, size)
	if _, err := io.ReadFull(f.p, raw); err != nil {
		return nil, err
	}
	return raw, nil
}

// into stores the files behind the manifest in a session.
func (f *files) into(ctx context.Context, ses repo.RefillSession) error {
	for {
		name, size, err := f.entry()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := f.one(ctx, ses, name, size); err != nil {
			return fmt.Errorf("archive %s: %w", name, err)
		}
	}
	if err := f.all(); err != nil {
		return err
	}
	return ses.Finish(ctx, f.manifest)
}

func (f *files) one(ctx context.Context, ses repo.RefillSession, name names.Archive, size int64) error {
	listed, ok := f.manifest.File(name.String())
	switch {
	case !ok && name != names.ClientLog:
		return bad("the manifest does not list it")
	case ok && name.Kind() != names.Blob:
		n, sum, err := ses.PutIndex(ctx, name, io.LimitReader(f.p, size))
		if err == nil && (n != listed.Size || sum != listed.Csum) {
			err = bad("%d bytes with checksum %s, the manifest says %d and %s", n, sum, listed.Size, listed.Csum)
		}
		return err
	}
	raw, err := f.content(size)
	if err != nil {
		return err
	}
	if ok && (uint64(len(raw)) != listed.Size || digest.Of(raw) != listed.Csum) {
		return bad("%d bytes with checksum %s, the manifest says %d and %s", len(raw), digest.Of(raw), listed.Size, listed.Csum)
	}
	return ses.PutBlob(ctx, name, raw)
}

// bad is a snapshot archive that is not what it should be.
func bad(format string, args ...any) error {
	return &repo.CorruptError{What: "the snapshot on the tape", Err: fmt.Errorf(format, args...)}
}

// check reads the files behind the manifest, and compares them with it.
func (f *files) check() error {
	for {
		name, size, err := f.entry()
		if errors.Is(err, io.EOF) {
			return f.all()
		}
		if err != nil {
			return err
		}
		if err := f.checkOne(name, size); err != nil {
			return fmt.Errorf("archive %s: %w", name, err)
		}
	}
}

func (f *files) checkOne(name names.Archive, size int64) error {
	listed, ok := f.manifest.File(name.String())
	if !ok {
		if name != names.ClientLog {
			return bad("the manifest does not list it")
		}
		_, err := io.CopyN(io.Discard, f.p, size)
		return err
	}
	sum, skip := sha256.New(), int64(0)
	if name.Kind() != names.Blob {
		skip = min(size, fidx.HeaderSize) // that of a dynamic index is as long
	}
	if _, err := io.CopyN(io.Discard, f.p, skip); err != nil {
		return err
	}
	if _, err := io.CopyN(sum, f.p, size-skip); err != nil {
		return err
	}
	if is := digest.Digest(sum.Sum(nil)); is != listed.Csum {
		return bad("its checksum is %s, the manifest says %s", is, listed.Csum)
	}
	return nil
}

// all reports whether every file was seen that the manifest lists.
func (f *files) all() error {
	for _, listed := range f.manifest.Files {
		if !f.seen[listed.Archive()] {
			return bad("%s is missing in it", listed.Filename)
		}
	}
	return nil
}
