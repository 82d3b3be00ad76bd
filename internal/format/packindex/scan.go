package packindex

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/holdfast-backup/holdfast/internal/digest"
)

// Scan reads an index of so many chunks from its beginning, block by block,
// and compares their checksums. It does not read the head. A failure is the last thing it gives;
// errors of r come back wrapped and are never ErrFormat.
func Scan(r io.Reader, chunks int64) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		buf := make([]byte, BlockSize)
		var last digest.Digest
		for first := int64(0); first < chunks; first += PerBlock {
			b := buf[:min(PerBlock, chunks-first)*EntrySize+crcSize]
			if _, err := io.ReadFull(r, b); err != nil {
				if errors.Is(err, io.EOF) {
					err = io.ErrUnexpectedEOF
				}
				yield(Entry{}, fmt.Errorf("read index of packs at chunk %d: %w", first, err))
				return
			}
			entries, err := checkBlock(b)
			if err != nil {
				yield(Entry{}, err)
				return
			}
			for i := first; len(entries) > 0; entries, i = entries[EntrySize:], i+1 {
				e, err := parseEntry(entries)
				if err == nil && i > 0 && bytes.Compare(last[:], e.Digest[:]) >= 0 {
					err = fmt.Errorf("%w: chunk %d is not behind the one before", ErrFormat, i)
				}
				last = e.Digest
				if !yield(e, err) || err != nil {
					return
				}
			}
		}
	}
}
