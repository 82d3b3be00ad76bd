package mediacatalog

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
)

// State is how far a catalog has come: what may follow. The zero State is that of
// a catalog that was not begun. A change that fails leaves it as it was.
type State struct {
	begun bool   // the magic is there
	next  uint64 // the lowest number that the next file may have
	open  bool   // an archive is
	in    Record // that archive
}

// NextFile is the lowest number that the next file may have.
func (s *State) NextFile() uint64 { return s.next }

// AppendLabel appends the record of the first label, seq 0 and the medium's uuid,
// or of the second, the media set's. The magic comes before the first.
func (s *State) AppendLabel(dst []byte, file uint64, id uuid.UUID, seq uint64) ([]byte, error) {
	n := *s
	if err := n.label(file); err != nil {
		return dst, err
	}
	dst = s.begin(dst)
	n.begun = true
	*s = n
	dst = appendHead(dst, Label, file, id)
	return binary.LittleEndian.AppendUint64(dst, seq), nil
}

// AppendArchive appends a chunk archive with all its chunks.
func (s *State) AppendArchive(dst []byte, file uint64, id uuid.UUID, store string, chunks iter.Seq[digest.Digest]) ([]byte, error) {
	n := *s
	r := Record{Kind: ArchiveStart, File: file, UUID: id, Store: store}
	if err := n.start(r); err != nil {
		return dst, err
	}
	if err := n.end(r); err != nil {
		return dst, err
	}
	dst = s.begin(dst)
	n.begun = true
	*s = n
	dst = appendHead(dst, ArchiveStart, file, id)
	dst = append(dst, byte(len(store)), 0, 0, 0, 0, 0, 0, 0)
	dst = append(dst, store...)
	for d := range chunks {
		dst = append(append(dst, byte(Chunk)), d[:]...)
	}
	return appendHead(dst, ArchiveEnd, file, id), nil
}

// AppendSnapshot appends a snapshot archive.
func (s *State) AppendSnapshot(dst []byte, file uint64, id uuid.UUID, store string, snap names.Snapshot) ([]byte, error) {
	n := *s
	r := Record{Kind: Snapshot, File: file, UUID: id, Store: store, Path: snap.Path()}
	if err := n.snapshot(r); err != nil {
		return dst, err
	}
	dst = s.begin(dst)
	n.begun = true
	*s = n
	dst = appendHead(dst, Snapshot, file, id)
	dst = append(dst, byte(len(store)), 0)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(r.Path)))
	dst = append(dst, 0, 0, 0, 0)
	dst = append(append(dst, store...), ':')
	return append(dst, r.Path...), nil
}

func (s *State) begin(dst []byte) []byte {
	if s.begun {
		return dst
	}
	return append(dst, magic[:]...)
}

// What may follow what.

func (s *State) label(file uint64) error {
	switch {
	case s.open:
		return fmt.Errorf("a label inside the archive of file %d", s.in.File)
	case file > 1 || file != s.next:
		return fmt.Errorf("a label of file %d where file %d is next", file, s.next)
	}
	s.next = file + 1
	return nil
}

func (s *State) start(r Record) error {
	if s.open {
		return fmt.Errorf("an archive inside the archive of file %d", s.in.File)
	}
	if err := s.file(r); err != nil {
		return err
	}
	s.open, s.in = true, r
	return nil
}

func (s *State) end(r Record) error {
	switch {
	case !s.open:
		return fmt.Errorf("the end of an archive that was not begun")
	case r.File != s.in.File || r.UUID != s.in.UUID:
		return fmt.Errorf("the archive of file %d ends as that of file %d", s.in.File, r.File)
	}
	s.open, s.next = false, r.File+1
	return nil
}

func (s *State) snapshot(r Record) error {
	if s.open {
		return fmt.Errorf("a snapshot inside the archive of file %d", s.in.File)
	}
	if err := s.file(r); err != nil {
		return err
	}
	if _, err := names.ParseSnapshot(r.Path); err != nil {
		return err
	}
	s.next = r.File + 1
	return nil
}

// file checks number and store of an archive.
func (s *State) file(r Record) error {
	if r.File < max(2, s.next) || r.File == math.MaxUint64 {
		return fmt.Errorf("an archive in file %d where file %d is next", r.File, max(2, s.next))
	}
	return names.CheckStore(r.Store)
}
