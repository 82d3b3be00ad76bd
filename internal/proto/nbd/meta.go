package nbd

import "fmt"

// BaseAllocation is the metadata context that every server should know, with
// the flags below.
const BaseAllocation = "base:allocation"

// The flags of base:allocation.
const (
	StateHole = 1 << 0 // takes no space
	StateZero = 1 << 1 // reads as zeros
)

// Contexts of QEMU: bit 0 of a dirty bitmap's extents says dirty; the flags of
// an allocation-depth extent are the number of its layer, 0 for none.
const (
	QEMUDirtyBitmap     = "qemu:dirty-bitmap:" // and the bitmap's name
	QEMUAllocationDepth = "qemu:allocation-depth"
	StateDirty          = 1 << 0
)

// MetaRequest is the data of LIST_META_CONTEXT and SET_META_CONTEXT.
type MetaRequest struct {
	Export  string
	Queries []string
}

// Append appends the data.
func (r MetaRequest) Append(b []byte) []byte {
	b = appendString(b, r.Export)
	b = be.AppendUint32(b, uint32(len(r.Queries)))
	for _, q := range r.Queries {
		b = appendString(b, q)
	}
	return b
}

// ParseMetaRequest reads the data of LIST_META_CONTEXT and SET_META_CONTEXT.
func ParseMetaRequest(b []byte) (MetaRequest, error) {
	var r MetaRequest
	var err error
	if r.Export, b, err = cutString(b); err != nil {
		return MetaRequest{}, fmt.Errorf("export name: %w", err)
	}
	if len(b) < 4 {
		return MetaRequest{}, short("number of queries", len(b), 4)
	}
	n := be.Uint32(b)
	if b = b[4:]; uint64(n) > uint64(len(b)/4) {
		return MetaRequest{}, fmt.Errorf("%w: %d queries in %d bytes", ErrFormat, n, len(b))
	}
	for range n {
		var q string
		if q, b, err = cutString(b); err != nil {
			return MetaRequest{}, fmt.Errorf("query: %w", err)
		}
		r.Queries = append(r.Queries, q)
	}
	if len(b) > 0 {
		return MetaRequest{}, fmt.Errorf("%w: %d bytes behind the queries", ErrFormat, len(b))
	}
	return r, nil
}

// MetaContext is the payload of a META_CONTEXT reply.
type MetaContext struct {
	ID   uint32
	Name string
}

// Append appends the payload.
func (c MetaContext) Append(b []byte) []byte { return append(be.AppendUint32(b, c.ID), c.Name...) }

// ParseMetaContext reads the payload of a META_CONTEXT reply.
func ParseMetaContext(b []byte) (MetaContext, error) {
	if len(b) < 4 {
		return MetaContext{}, short("metadata context", len(b), 4)
	}
	s, err := ParseString(b[4:])
	if err != nil {
		return MetaContext{}, fmt.Errorf("metadata context: %w", err)
	}
	return MetaContext{be.Uint32(b), s}, nil
}

// Extent is a descriptor of a block status.
type Extent struct {
	Length, Flags uint64
}

// BlockStatus is the payload of a BLOCK_STATUS or BLOCK_STATUS_EXT chunk.
type BlockStatus struct {
	Context uint32
	Extents []Extent // at least one, each with a length
}

// Append appends the payload of a BLOCK_STATUS chunk, or with wide that of
// BLOCK_STATUS_EXT. Without wide, lengths and flags must fit 32 bits.
func (s BlockStatus) Append(b []byte, wide bool) []byte {
	b = be.AppendUint32(b, s.Context)
	if wide {
		b = be.AppendUint32(b, uint32(len(s.Extents)))
	}
	for _, e := range s.Extents {
		if wide {
			b = be.AppendUint64(be.AppendUint64(b, e.Length), e.Flags)
		} else {
			b = be.AppendUint32(be.AppendUint32(b, uint32(e.Length)), uint32(e.Flags))
		}
	}
	return b
}

// ParseBlockStatus reads the payload of a BLOCK_STATUS or BLOCK_STATUS_EXT
// chunk. A status without extents or with an empty one is refused: it would
// make no progress.
func ParseBlockStatus(b []byte, wide bool) (BlockStatus, error) {
	head, size := 4, 8
	if wide {
		head, size = 8, 16
	}
	n := (len(b) - head) / size
	if n < 1 || len(b) != head+n*size || n > MaxExtents {
		return BlockStatus{}, fmt.Errorf("%w: block status of %d bytes", ErrFormat, len(b))
	}
	s := BlockStatus{Context: be.Uint32(b), Extents: make([]Extent, n)}
	if wide { // a count of zero leaves it to the length
		if c := be.Uint32(b[4:]); c != 0 && int64(c) != int64(n) {
			return BlockStatus{}, fmt.Errorf("%w: block status of %d extents in %d bytes", ErrFormat, c, len(b))
		}
	}
	b = b[head:]
	for i := range s.Extents {
		if wide {
			s.Extents[i] = Extent{be.Uint64(b), be.Uint64(b[8:])}
		} else {
			s.Extents[i] = Extent{uint64(be.Uint32(b)), uint64(be.Uint32(b[4:]))}
		}
		if s.Extents[i].Length == 0 {
			return BlockStatus{}, fmt.Errorf("%w: block status with an empty extent", ErrFormat)
		}
		b = b[size:]
	}
	return s, nil
}

// StatusFilter is the payload of a BLOCK_STATUS command with PAYLOAD_LEN: the
// range's length and the contexts that the client wants this time.
type StatusFilter struct {
	Length   uint64
	Contexts []uint32
}

// Append appends the payload.
func (f StatusFilter) Append(b []byte) []byte {
	b = be.AppendUint64(b, f.Length)
	for _, id := range f.Contexts {
		b = be.AppendUint32(b, id)
	}
	return b
}

// ParseStatusFilter reads the payload.
func ParseStatusFilter(b []byte) (StatusFilter, error) {
	if len(b) < 8 || len(b)%4 != 0 {
		return StatusFilter{}, fmt.Errorf("%w: filter of a block status of %d bytes", ErrFormat, len(b))
	}
	f := StatusFilter{Length: be.Uint64(b)}
	for b = b[8:]; len(b) > 0; b = b[4:] {
		f.Contexts = append(f.Contexts, be.Uint32(b))
	}
	return f, nil
}
