package tcmu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/holdfast-backup/holdfast/internal/scsi"
)

// Offsets in the mailbox.
const (
	boxVersion = 0
	boxFlags   = 2
	boxRingOff = 4
	boxRingLen = 8
	boxHead    = 12
	boxTail    = 64
	boxSize    = 68

	version     = 2
	flagReadLen = 2 // of boxFlags
)

// Offsets in an entry.
const (
	entryFlags   = 7
	entryPieces  = 8
	entryStatus  = 8
	entryReadLen = 12
	entrySense   = 16
	entryCDB     = 24
	entryIovec   = 48
	iovecSize    = 16
	headSize     = 8
	answerSize   = entrySense + 96

	entryUnknown   = 1 // of entryFlags
	entryHasRead   = 2
	operationMask  = 7
	opPad          = 0
	opCommand      = 1
	opManagement   = 2 // a task is aborted: it ends by itself
	mostPieces     = 1 << 16
	longestCommand = scsi.MaxCDB
)

var native = binary.NativeEndian

// ring is the memory that is shared with the kernel. The kernel is believed,
// but no word of it leads outside the memory.
type ring struct {
	mem       []byte
	off, size uint32
	readLen   bool // answers may say how much was read
}

func newRing(mem []byte) (*ring, error) {
	if len(mem) < boxSize {
		return nil, fmt.Errorf("the ring's memory has %d bytes", len(mem))
	}
	if v := native.Uint16(mem[boxVersion:]); v != version {
		return nil, fmt.Errorf("the kernel's ring is of version %d, not %d", v, version)
	}
	r := &ring{
		mem: mem, off: native.Uint32(mem[boxRingOff:]), size: native.Uint32(mem[boxRingLen:]),
		readLen: native.Uint16(mem[boxFlags:])&flagReadLen != 0,
	}
	if r.size == 0 || r.size%headSize != 0 || r.off%headSize != 0 || uint64(r.off)+uint64(r.size) > uint64(len(mem)) {
		return nil, fmt.Errorf("the kernel's ring of %d bytes at %d does not fit into %d", r.size, r.off, len(mem))
	}
	return r, nil
}

// word is a word of the mailbox that both sides use.
func (r *ring) word(at int) *uint32 { return (*uint32)(unsafe.Pointer(&r.mem[at])) }

// request is one entry.
type request struct {
	entry  []byte // the entry itself
	op     uint32
	cdb    []byte   // a copy
	pieces [][]byte // of the data, in the shared memory
	length int      // of all pieces
}

var errRing = errors.New("the ring of the kernel is damaged")

// next returns the oldest request that has no answer; nil when there is none.
func (r *ring) next() (*request, error) {
	head, tail := atomic.LoadUint32(r.word(boxHead)), atomic.LoadUint32(r.word(boxTail))
	if head == tail {
		return nil, nil
	}
	if tail%headSize != 0 || tail >= r.size {
		return nil, fmt.Errorf("%w: tail %d of %d", errRing, tail, r.size)
	}
	rest := r.mem[r.off+tail : r.off+r.size]
	lengthAndOp := native.Uint32(rest)
	n, op := lengthAndOp&^operationMask, lengthAndOp&operationMask
	if n < headSize || uint64(n) > uint64(len(rest)) {
		return nil, fmt.Errorf("%w: an entry of %d bytes at %d of %d", errRing, n, tail, r.size)
	}
	req := &request{entry: rest[:n:n], op: op}
	if op != opCommand {
		return req, nil
	}
	if n < answerSize {
		return nil, fmt.Errorf("%w: a command of %d bytes", errRing, n)
	}
	return req, r.parse(req)
}

// parse finds the CDB and the data of a command.
func (r *ring) parse(req *request) error {
	at := native.Uint64(req.entry[entryCDB:])
	if at >= uint64(len(r.mem)) {
		return fmt.Errorf("%w: a CDB at %d", errRing, at)
	}
	cdb := r.mem[at:]
	n := cdbLength(cdb[0])
	if len(cdb) < n {
		return fmt.Errorf("%w: a CDB at %d", errRing, at)
	}
	req.cdb = append([]byte(nil), cdb[:n]...)
	count := native.Uint32(req.entry[entryPieces:])
	if count > mostPieces || uint64(count)*iovecSize+entryIovec > uint64(len(req.entry)) {
		return fmt.Errorf("%w: %d pieces in an entry of %d bytes", errRing, count, len(req.entry))
	}
	for i := range int(count) {
		v := req.entry[entryIovec+i*iovecSize:]
		at, n := native.Uint64(v), native.Uint64(v[8:])
		if at > uint64(len(r.mem)) || n > uint64(len(r.mem))-at {
			return fmt.Errorf("%w: %d bytes of data at %d", errRing, n, at)
		}
		if req.length += int(n); req.length > scsi.MaxData {
			return fmt.Errorf("%w: more than %d bytes of data", errRing, scsi.MaxData)
		}
		req.pieces = append(req.pieces, r.mem[at:at+n:at+n])
	}
	return nil
}

// cdbLength is the length of a CDB by the group of its opcode (SAM-5); of the
// groups without a standard length, the longest, which the kernel has room for.
func cdbLength(opcode byte) int {
	switch opcode >> 5 {
	case 0:
		return 6
	case 1, 2:
		return 10
	case 5:
		return 12
	}
	return longestCommand
}

// advance lets the kernel have a request's room again.
func (r *ring) advance(req *request) {
	tail := atomic.LoadUint32(r.word(boxTail))
	atomic.StoreUint32(r.word(boxTail), (tail+uint32(len(req.entry)))%r.size)
}
