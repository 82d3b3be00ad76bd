package tcmu

import (
	"bytes"
	"errors"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/scsi"
)

const (
	testRing = 128  // where the ring begins
	testLen  = 1024 // its length
	testData = 2048 // where data may lie
	testMem  = 8192
)

// kernel is the other side of a ring.
type kernel struct{ mem []byte }

func newKernel() *kernel {
	k := &kernel{make([]byte, testMem)}
	native.PutUint16(k.mem[boxVersion:], version)
	native.PutUint16(k.mem[boxFlags:], flagReadLen)
	native.PutUint32(k.mem[boxRingOff:], testRing)
	native.PutUint32(k.mem[boxRingLen:], testLen)
	return k
}

// piece is a piece of data.
type piece struct{ at, n int }

// put adds a command with its CDB and pieces; it returns where its entry is.
func (k *kernel) put(cdb []byte, pieces ...piece) int {
	n := max(answerSize, entryIovec+len(pieces)*iovecSize)
	n = (n + len(cdb) + 7) &^ 7
	head := int(native.Uint32(k.mem[boxHead:]))
	if head+n > testLen { // entries do not wrap
		native.PutUint32(k.mem[testRing+head:], uint32(testLen-head)|opPad)
		head = 0
	}
	e := k.mem[testRing+head : testRing+head+n]
	clear(e)
	native.PutUint32(e, uint32(n)|opCommand)
	native.PutUint32(e[entryPieces:], uint32(len(pieces)))
	native.PutUint64(e[entryCDB:], uint64(testRing+head+n-len(cdb)))
	copy(e[n-len(cdb):], cdb)
	for i, p := range pieces {
		native.PutUint64(e[entryIovec+i*iovecSize:], uint64(p.at))
		native.PutUint64(e[entryIovec+i*iovecSize+8:], uint64(p.n))
	}
	native.PutUint32(k.mem[boxHead:], uint32((head+n)%testLen))
	return testRing + head
}

// echo gives back what was written to it, with the sense of an early warning.
type echo struct{ kept []byte }

func (u *echo) Execute(cdb, out, in []byte) (int, error) {
	if scsi.OpcodeOf(cdb) == scsi.Write6 {
		u.kept = append([]byte(nil), out...)
		return len(out), nil
	}
	return copy(in, u.kept), &scsi.Sense{Key: scsi.NoSense, ASCQ: 2, EOM: true}
}

func TestCommandsOfARingAreAnswered(t *testing.T) {
	k := newKernel()
	r, err := newRing(k.mem)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{ring: r, unit: &echo{}}
	kicks := 0
	kick := func() error { kicks++; return nil }
	for range 20 { // several times around the ring
		copy(k.mem[testData:], "holdfast")
		w := k.put([]byte{0x0a, 0, 0, 0, 8, 0}, piece{testData, 3}, piece{testData + 3, 5})
		if err := s.drain(kick); err != nil {
			t.Fatal(err)
		}
		if e := k.mem[w:]; e[entryStatus] != 0 || e[entryFlags] != 0 {
			t.Fatalf("a write was answered %x", e[:16])
		}
		clear(k.mem[testData:])
		rd := k.put([]byte{0x08, 0, 0, 0, 16, 0}, piece{testData + 100, 4}, piece{testData + 50, 12})
		if err := s.drain(kick); err != nil {
			t.Fatal(err)
		}
		e := k.mem[rd:]
		if e[entryStatus] != 2 || e[entryFlags] != entryHasRead || native.Uint32(e[entryReadLen:]) != 8 || e[entrySense+2] != 0x40 {
			t.Fatalf("a read was answered %x", e[:answerSize])
		}
		if got := string(k.mem[testData+100:testData+104]) + string(k.mem[testData+50:testData+54]); got != "holdfast" {
			t.Fatalf("a read gave %q", got)
		}
	}
	if kicks < 40 {
		t.Fatalf("the kernel was told %d times", kicks)
	}
}

func TestAnOperationThatIsNotKnownIsAnsweredSo(t *testing.T) {
	k := newKernel()
	at := k.put([]byte{0, 0, 0, 0, 0, 0})
	native.PutUint32(k.mem[at:], native.Uint32(k.mem[at:])|7)
	r, err := newRing(k.mem)
	if err != nil {
		t.Fatal(err)
	}
	if err := (&server{ring: r, unit: &echo{}}).drain(func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	if k.mem[at+entryFlags] != entryUnknown {
		t.Fatalf("flags %x", k.mem[at+entryFlags])
	}
}

func TestADamagedRingIsNotFollowed(t *testing.T) {
	for name, spoil := range map[string]func(k *kernel, at int){
		"an entry of nothing":       func(k *kernel, at int) { native.PutUint32(k.mem[at:], opCommand) },
		"an entry beyond the ring":  func(k *kernel, at int) { native.PutUint32(k.mem[at:], testLen+8|opCommand) },
		"an entry without room":     func(k *kernel, at int) { native.PutUint32(k.mem[at:], 64|opCommand) },
		"a CDB beyond the memory":   func(k *kernel, at int) { native.PutUint64(k.mem[at+entryCDB:], testMem) },
		"a CDB that is cut":         func(k *kernel, at int) { native.PutUint64(k.mem[at+entryCDB:], testMem-2) },
		"more pieces than fit":      func(k *kernel, at int) { native.PutUint32(k.mem[at+entryPieces:], 100) },
		"a piece beyond the memory": func(k *kernel, at int) { native.PutUint64(k.mem[at+entryIovec:], testMem-1) },
		"a piece that wraps around": func(k *kernel, at int) { native.PutUint64(k.mem[at+entryIovec+8:], ^uint64(0)) },
		"a tail beyond the ring":    func(k *kernel, _ int) { native.PutUint32(k.mem[boxTail:], testLen+8) },
	} {
		k := newKernel()
		at := k.put([]byte{0x08, 0, 0, 0, 16, 0}, piece{testData, 16})
		spoil(k, at)
		r, err := newRing(k.mem)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.next(); !errors.Is(err, errRing) {
			t.Errorf("%s: err = %v", name, err)
		}
	}
}

func FuzzRing(f *testing.F) {
	k := newKernel()
	k.put([]byte{0x0a, 0, 0, 0, 8, 0}, piece{testData, 3}, piece{testData + 3, 5})
	k.put([]byte{0xa2, 0x20, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0}, piece{testData, 16})
	f.Add(bytes.Clone(k.mem[:testRing]), bytes.Clone(k.mem[testRing:testRing+testLen]))
	f.Fuzz(func(t *testing.T, box, entries []byte) {
		mem := make([]byte, testMem)
		copy(mem[:testRing], box)
		copy(mem[testRing:testRing+testLen], entries)
		r, err := newRing(mem)
		if err != nil {
			return
		}
		s := &server{ring: r, unit: &echo{}}
		for range 64 { // a ring that never gets empty is the kernel's own doing
			req, err := s.ring.next()
			if req == nil || err != nil {
				return
			}
			if req.op == opCommand {
				s.answer(req)
			}
			s.ring.advance(req)
		}
	})
}
