package job

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/media"
)

// wantedFiles are files of media, by medium, that are to be read.
type wantedFiles map[uuid.UUID][]uint64

// add adds a file. Chunks lie in rows: most often it is the one that came before.
func (w wantedFiles) add(at media.At) {
	if list := w[at.Medium]; len(list) == 0 || list[len(list)-1] != at.File {
		w[at.Medium] = append(list, at.File)
	}
}

// onMedia calls work with every medium of which files are wanted, in its drive, and
// those files in their order.
func (p *picking) onMedia(ctx context.Context, files wantedFiles, work func(d tape.Drive, medium uuid.UUID, files []uint64) error) error {
	for _, m := range p.list {
		want := files[m.UUID()]
		if len(want) == 0 {
			continue
		}
		slices.Sort(want)
		want = slices.Compact(want)
		d, err := p.World.open(ctx, m)
		if err != nil {
			return fmt.Errorf("medium %s: %w", m.Label.Text, err)
		}
		p.bringing.logf("reading from medium %s, number of files: %d", m.Label.Text, len(want))
		if err := errors.Join(work(d, m.UUID(), want), d.Close()); err != nil {
			return fmt.Errorf("medium %s: %w", m.Label.Text, err)
		}
	}
	return nil
}

// single shows one file to v. What is damaged is reported and counted.
func (p *picking) single(ctx context.Context, d tape.Drive, file uint64, v visitor) error {
	if err := d.Locate(ctx, file); err != nil {
		return fmt.Errorf("file %d: %w", file, err)
	}
	there, _, err := visit(ctx, d, file, v)
	switch {
	case !there:
		return fmt.Errorf("file %d: %w; read the catalog from the medium with tape catalog --force", file, tape.ErrEndOfData)
	case err == nil || errors.Is(err, errSkip):
	case isDamage(err):
		p.stats.Damaged++
		p.bringing.warnf("file %d: %v", file, err)
	default:
		return fmt.Errorf("file %d: %w", file, err)
	}
	return nil
}

// onlyChunks refuses what is no chunk archive.
type onlyChunks struct{}

func (onlyChunks) snapshot(context.Context, place, tapefile.SnapshotArchive, io.Reader) error {
	return fmt.Errorf("%w: a snapshot where chunks should be", tapefile.ErrFormat)
}

func (onlyChunks) catalog(context.Context, place, tapefile.CatalogArchive, io.Reader) error {
	return fmt.Errorf("%w: a catalog where chunks should be", tapefile.ErrFormat)
}
