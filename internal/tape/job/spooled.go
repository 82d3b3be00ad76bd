package job

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/indexset"
)

// indexesOf adds the indexes of a snapshot archive that lies on disk to a set, and
// calls each with every chunk that they name.
func indexesOf(path string, set *indexset.Set, each func(digest.Digest) error) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	a, err := pxar.OpenArchive(f, info.Size(), nil, 0)
	if err != nil {
		return err
	}
	for e, err := range a.Root().Entries() {
		if err != nil {
			return err
		}
		name, err := names.ParseArchive(e.Name)
		if err != nil || e.Kind != pxar.File || name.Kind() == names.Blob {
			continue
		}
		content, err := a.Content(e)
		if err != nil {
			return err
		}
		// The set keeps its index for longer than this file is open here.
		own, err := os.Open(path)
		if err != nil {
			return err
		}
		_, start, _ := content.Outer()
		if err := addIndex(name, io.NewSectionReader(own, start, e.Size), own, set, each); err != nil {
			return fmt.Errorf("archive %s: %w", name, err)
		}
	}
	return nil
}

// addIndex adds one index to a set, which closes c.
func addIndex(name names.Archive, r *io.SectionReader, c io.Closer, set *indexset.Set, each func(digest.Digest) error) error {
	if name.Kind() == names.Fidx {
		x, err := fidx.Open(r, r.Size())
		if err != nil {
			return errors.Join(asDamage(name, err), c.Close())
		}
		if err := set.AddFixed(x, c); err != nil {
			return asDamage(name, err)
		}
		return x.Each(func(_ int, d digest.Digest) error { return each(d) })
	}
	x, err := didx.Open(r, r.Size())
	if err != nil {
		return errors.Join(asDamage(name, err), c.Close())
	}
	if err := set.AddDynamic(x, c); err != nil {
		return asDamage(name, err)
	}
	return asDamage(name, x.Each(func(_ int, _, _ int64, d digest.Digest) error { return each(d) }))
}

// asDamage makes bytes that are no index what they are: damage of the snapshot.
func asDamage(name names.Archive, err error) error {
	if errors.Is(err, fidx.ErrFormat) || errors.Is(err, didx.ErrFormat) {
		return &repo.CorruptError{What: "archive " + name.String(), Err: err}
	}
	return err
}
