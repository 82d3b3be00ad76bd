package image

import "io"

// Device is an image that can be changed, as a guest changes its disk: a
// writable export, an overlay. All of it is safe for concurrent use; what
// overlapping calls leave behind is as if each of their bytes came from one of
// them.
type Device interface {
	Image
	// WriteAt writes within Size.
	io.WriterAt
	// Zero makes [off, off+n) read as zeros, without taking space where the
	// device can.
	Zero(off, n int64) error
	// Discard says that the content of [off, off+n) is not needed any more. It
	// may then read as what it was or as zeros, whole or in part.
	Discard(off, n int64) error
	// Flush returns when everything is durable whose call returned before
	// Flush was called.
	Flush() error
}
