// Package indexfile writes the indexes of a snapshot, wherever they come to lie:
// [NewFixed] in any order, [NewDynamic] entry by entry, [Put] one that is stored
// as it is. Memory is a constant.
//
// # Files
//
// The owner of a [File] decides what it is: a file that gets its name when it is
// complete, or a temporary one whose bytes go elsewhere. A writer calls its
// Settle once, when the index is complete or has failed; whoever gives up before
// that (the end of a session) closes the files itself.
//
// # Errors
//
// Each names the index. What cannot be an index is refused before a byte is
// written; bytes that are no index are a [*repo.CorruptError]; all else is an
// error of the file.
package indexfile

import (
	"fmt"
	"io"
	"time"
)

// File is what an index is written into. It is empty at first.
type File interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	// Settle ends the writing: it keeps a complete index, or removes what err has
	// spoilt. It returns err, or why the index could not be kept.
	Settle(err error) error
}

// Options say where an index comes to lie.
type Options struct {
	Create func() (File, error) // called once, when all that can be refused was
	Now    time.Time            // the index says when it was made
	Rand   io.Reader            // and has a number of its own
}

// create makes the file and fills in the index's own number.
func (o Options) create(uuid *[16]byte) (File, error) {
	if _, err := io.ReadFull(o.Rand, uuid[:]); err != nil {
		return nil, fmt.Errorf("random number: %w", err)
	}
	return o.Create()
}
