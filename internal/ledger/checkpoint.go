package ledger

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/zstd"
	"github.com/tidwall/btree"
)

// The head of a checkpoint.
const (
	magic      = "HFSTATE1"
	offSeq     = 8
	offSize    = 16
	offEntry   = 24
	offSum     = 56
	headSize   = 88
	maxRecords = 1 << 30 // bytes; a million snapshots

	maxCheckpoint = headSize + maxRecords + maxRecords/64 // what does not compress grows a little
)

// checkpoint gives the bytes of a checkpoint.
func (s State) checkpoint() ([]byte, error) {
	var records []byte
	for key, value := range s.Scan("") {
		records = binary.AppendUvarint(records, uint64(len(key)))
		records = append(records, key...)
		records = binary.AppendUvarint(records, uint64(len(value)))
		records = append(records, value...)
	}
	if len(records) > maxRecords {
		return nil, fmt.Errorf("the state has %d bytes, at most %d fit into a checkpoint", len(records), maxRecords)
	}
	head := make([]byte, headSize)
	copy(head, magic)
	binary.LittleEndian.PutUint64(head[offSeq:], s.seq)
	binary.LittleEndian.PutUint64(head[offSize:], uint64(len(records)))
	copy(head[offEntry:], s.sum[:])
	sum := checkpointSum(head, records)
	copy(head[offSum:], sum[:])
	return appendFrames(head, records)
}

// piece is how much goes into one frame.
const piece = 1 << 20

// appendFrames compresses b.
func appendFrames(out, b []byte) ([]byte, error) {
	enc, err := zstd.NewEncoder()
	if err != nil {
		return nil, err
	}
	defer enc.Close()
	room := make([]byte, zstd.Bound(min(len(b), piece)))
	for {
		part := b[:min(len(b), piece)]
		n, ok := enc.Compress(room, part)
		if !ok {
			return nil, errors.New("a checkpoint could not be compressed")
		}
		out, b = append(out, room[:n]...), b[len(part):]
		if len(b) == 0 { // nothing is one empty frame
			return out, nil
		}
	}
}

func checkpointSum(head, records []byte) digest.Digest {
	whole := digest.Of(records)
	return digest.Of(append(head[:offSum:offSum], whole[:]...))
}

// parseCheckpoint reads the checkpoint with number n.
func parseCheckpoint(b []byte, n uint64) (State, error) {
	if len(b) < headSize || string(b[:len(magic)]) != magic {
		return State{}, errors.New("it does not begin like one")
	}
	if seq := binary.LittleEndian.Uint64(b[offSeq:]); seq != n {
		return State{}, fmt.Errorf("it is that of entry %d", seq)
	}
	size := binary.LittleEndian.Uint64(b[offSize:])
	if size > maxRecords || size > zstd.MaxPlain(len(b)-headSize) {
		return State{}, fmt.Errorf("it claims to hold %d bytes", size)
	}
	records := make([]byte, size)
	dec, err := zstd.NewDecoder()
	if err != nil {
		return State{}, err
	}
	defer dec.Close()
	switch got, err := dec.Decompress(records, b[headSize:]); {
	case err != nil:
		return State{}, err
	case uint64(got) != size:
		return State{}, fmt.Errorf("it holds %d bytes of %d", got, size)
	}
	if sum := checkpointSum(b, records); sum != digest.Digest(b[offSum:headSize]) {
		return State{}, errors.New("its checksum does not fit")
	}
	s := State{seq: n, sum: digest.Digest(b[offEntry:offSum]), tree: new(btree.Map[string, []byte])}
	return s, s.fill(records)
}

// fill takes over records; the values stay where they are.
func (s State) fill(records []byte) error {
	field := func() ([]byte, bool) {
		n, used := binary.Uvarint(records)
		if used <= 0 || n > uint64(len(records)-used) {
			return nil, false
		}
		f := records[used : used+int(n) : used+int(n)]
		records = records[used+int(n):]
		return f, true
	}
	last := ""
	for len(records) > 0 {
		key, ok := field()
		value, also := field()
		if !ok || !also || string(key) <= last {
			return errors.New("its records are out of order")
		}
		last = string(key)
		s.tree.Load(last, value)
	}
	return nil
}

// keep stores a checkpoint of the state, if it is time for one. That it fails does not
// matter: everything is in the entries, and the next one comes.
func (l *Ledger) keep(ctx context.Context, s State) {
	if s.seq%l.opt.Sizes.Checkpoint != 0 {
		return
	}
	b, err := s.checkpoint()
	if err != nil {
		return
	}
	_, _ = l.s.Put(ctx, name(statePrefix, s.seq), bytes.NewReader(b), objstore.PutOptions{If: objstore.IfAbsent, Retain: l.opt.Retain()}) // see above
}
