package job

import (
	"errors"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
	"github.com/holdfast-backup/holdfast/internal/tape"
)

// maxArchive is how many bytes a chunk archive has before another one is begun:
// so much at most has to be read for one chunk.
const maxArchive = 4 << 30

// chunkArchive is a chunk archive that is being written.
type chunkArchive struct {
	m     *medium
	w     *tape.Writer
	id    uuid.UUID
	store string

	start  int64 // of the first chunk: the length of the file's header
	size   int64 // bytes handed over, with that
	chunks []wanted
	ends   []int64 // of the entries in the file, bytes
	head   []byte
}

func (m *medium) beginChunks(store string) (*chunkArchive, error) {
	a := &chunkArchive{m: m, store: store}
	w, id, err := m.begin(tape.Cut, func(id uuid.UUID, now int64) (tapefile.Header, error) {
		h, err := tapefile.ChunkArchive{Store: store}.Header(id, now)
		a.start = int64(tapefile.HeaderSize + len(h.JSON))
		a.size = a.start
		return h, err
	})
	if err != nil {
		return nil, err
	}
	a.w, a.id = w, id
	return a, nil
}

// add writes a chunk. full says that the archive takes no more and is to be
// finished: whether this chunk is on the medium comes out then.
func (a *chunkArchive) add(c wanted, raw []byte) (full bool, err error) {
	a.head = tapefile.AppendChunkHeader(a.head[:0], c.digest, len(raw))
	a.chunks = append(a.chunks, c)
	a.size += int64(len(a.head) + len(raw))
	a.ends = append(a.ends, a.size)
	for _, b := range [][]byte{a.head, raw} {
		_, err := a.w.Write(b)
		if errors.Is(err, tape.ErrEarly) || errors.Is(err, tape.ErrFull) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
	return a.size > maxArchive, nil
}

// finish ends the archive, puts what it holds into the catalog, and returns the
// chunks that did not get onto the medium: the one that is cut, and those that
// were on their way. On a medium that ended without a warning that is all of
// them, for nobody knows what it has.
func (a *chunkArchive) finish() (lost []wanted, err error) {
	file, err := a.m.finish(a.w, false)
	if errors.Is(err, errFull) {
		return a.chunks, nil
	}
	if err != nil {
		return nil, err
	}
	var held []digest.Digest
	for n := 0; n < len(a.ends) && a.ends[n] <= a.w.Written(); n++ {
		held = append(held, a.chunks[n].digest)
	}
	if len(held) > 0 {
		if err := a.m.catalog.AddArchive(file, a.id, a.store, held); err != nil {
			return nil, err
		}
		a.m.kept++
	}
	return a.chunks[len(held):], nil
}

// behind is how many bytes were handed over behind the first n chunks.
func (a *chunkArchive) behind(n int) int64 {
	if n == 0 {
		return a.size - a.start
	}
	return a.size - a.ends[n-1]
}

// drop ends an archive after an error.
func (a *chunkArchive) drop() error { return a.w.Close() }
