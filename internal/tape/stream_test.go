package tape_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/tape"
)

func noLeaks(t *testing.T) {
	before := pagebuf.Outstanding()
	t.Cleanup(func() {
		if n := pagebuf.Outstanding() - before; n != 0 {
			t.Errorf("%d rings were not freed", n)
		}
	})
}

func bytesOf(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// write makes one file of data, in odd pieces, and ends it.
func write(t *testing.T, d tape.Drive, atEnd tape.AtEnd, data []byte, incomplete bool) (*tape.Writer, error) {
	t.Helper()
	w, err := tape.NewWriter(d, atEnd)
	if err != nil {
		t.Fatal(err)
	}
	_, werr := io.Copy(struct{ io.Writer }{w}, iotest.HalfReader(bytes.NewReader(data)))
	err = w.Finish(incomplete)
	if werr != nil && !errors.Is(err, werr) && !errors.Is(werr, tape.ErrEarly) {
		t.Errorf("Write says %v, Finish %v", werr, err)
	}
	return w, err
}

func read(t *testing.T, d tape.Drive) ([]byte, error) {
	t.Helper()
	r, err := tape.NewReader(d)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	return io.ReadAll(r)
}

func TestFileComesBackAsItWasWritten(t *testing.T) {
	noLeaks(t)
	const full = tapefile.PayloadSize
	for _, n := range []int{0, 1, full - 1, full, full + 1, 3 * full, 150*full + 7} {
		t.Run(fmt.Sprint(n, " bytes"), func(t *testing.T) {
			d, data := &memDrive{}, bytesOf(n)
			w, err := write(t, d, tape.GiveUp, data, false)
			if err != nil || w.Written() != int64(n) || w.Early() {
				t.Fatalf("err %v, %d bytes written, early %v", err, w.Written(), w.Early())
			}
			if want := n/full + 2; len(d.blocks) != want {
				t.Errorf("%d blocks and filemarks, want %d", len(d.blocks), want)
			}
			d.at = 0
			got, err := read(t, d)
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%d bytes came back, %v", len(got), err)
			}
			if d.at != len(d.blocks) {
				t.Errorf("the drive stands at block %d of %d", d.at, len(d.blocks))
			}
			d.at = 0
			r, err := tape.NewReader(d)
			if err != nil {
				t.Fatal(err)
			}
			var sink bytes.Buffer
			if _, err := io.Copy(&sink, r); err != nil || !bytes.Equal(sink.Bytes(), data) {
				t.Errorf("WriteTo gave %d bytes, %v", sink.Len(), err)
			}
			_ = r.Close()
			var again memDrive
			w, err = tape.NewWriter(&again, tape.GiveUp)
			if err != nil {
				t.Fatal(err)
			}
			if k, err := w.ReadFrom(bytes.NewReader(data)); err != nil || k != int64(n) {
				t.Errorf("ReadFrom took %d bytes, %v", k, err)
			}
			if err := w.Finish(false); err != nil || len(again.blocks) != len(d.blocks) {
				t.Errorf("ReadFrom made %d blocks, %v", len(again.blocks), err)
			}
		})
	}
}

// The label of the golden example of the reference, as a file: one block.
func TestLabelBecomesTheBlockThatPBSWrites(t *testing.T) {
	noLeaks(t)
	l := tapefile.Label{UUID: uuid.MustParse("01234567-89ab-cdef-0123-456789abcdef"), Text: "TEST01L8", Ctime: 1700000000}
	h, err := l.Header(uuid.MustParse("00112233-4455-4677-8899-aabbccddeeff"), 1700000000)
	if err != nil {
		t.Fatal(err)
	}
	data, err := h.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	d := &memDrive{}
	if _, err := write(t, d, tape.GiveUp, data, false); err != nil || len(d.blocks) != 2 || d.blocks[1] != nil {
		t.Fatalf("%d blocks and filemarks, %v", len(d.blocks), err)
	}
	sum := sha256.Sum256(d.blocks[0])
	if got, want := hex.EncodeToString(sum[:]), "80e49e9491a2aa2b18db2fdff07f0bceb7837a5c62f191c4a891b1bf9434f0d8"; got != want {
		t.Errorf("the block is %s, want %s", got, want)
	}
}

func TestFileThatWasGivenUpSaysSoAtItsEnd(t *testing.T) {
	noLeaks(t)
	d, data := &memDrive{}, bytesOf(300_000)
	if _, err := write(t, d, tape.GiveUp, data, true); err != nil {
		t.Fatal(err)
	}
	d.at = 0
	got, err := read(t, d)
	if !errors.Is(err, tape.ErrIncomplete) || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

func TestClosedWriterLeavesAFileThatWasGivenUp(t *testing.T) {
	noLeaks(t)
	d := &memDrive{}
	w, err := tape.NewWriter(d, tape.Cut)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("half of it")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("more")); err == nil {
		t.Error("a closed file takes data")
	}
	d.at = 0
	if _, err := read(t, d); !errors.Is(err, tape.ErrIncomplete) {
		t.Errorf("err = %v", err)
	}
}

// What the early warning finds in the ring is dropped, and nobody believes that
// it is on the tape.
func TestEarlyWarningLeavesExactlyWhatWrittenSays(t *testing.T) {
	noLeaks(t)
	const full = tapefile.PayloadSize
	data := bytesOf(100*full + 5)
	for early := 1; early <= 103; early += 34 {
		for _, atEnd := range []tape.AtEnd{tape.GiveUp, tape.Cut} {
			d := &memDrive{early: early}
			w, err := write(t, d, atEnd, data, false)
			whole := w.Written() == int64(len(data))
			want := error(nil)
			if !whole && atEnd == tape.GiveUp {
				want = tape.ErrEarly
			}
			if !errors.Is(err, want) || !w.Early() && early <= 102 {
				t.Errorf("early at %d: Finish says %v, early %v", early, err, w.Early())
			}
			if n := len(d.blocks); n > early+2 && !whole {
				t.Errorf("early at %d: %d blocks and filemarks", early, n)
			}
			d.at = 0
			got, err := read(t, d)
			if want != nil && !errors.Is(err, tape.ErrIncomplete) || want == nil && err != nil {
				t.Errorf("early at %d: reading says %v", early, err)
			}
			if int64(len(got)) != w.Written() || !bytes.Equal(got, data[:len(got)]) {
				t.Errorf("early at %d: %d bytes are on the tape, Written says %d", early, len(got), w.Written())
			}
		}
	}
}

func TestFailedWriteIsTheLastOne(t *testing.T) {
	noLeaks(t)
	data := bytesOf(20 * tapefile.PayloadSize)
	for n := 1; n <= 22; n++ {
		d := &memDrive{failAt: n}
		w, err := write(t, d, tape.Cut, data, false)
		if !errors.Is(err, errBroken) {
			t.Errorf("write %d fails: %v", n, err)
		}
		if d.writes != n || len(d.blocks) != n-1 {
			t.Errorf("write %d fails: %d writes, %d of them done", n, d.writes, len(d.blocks))
		}
		d.at = 0
		got, err := read(t, d)
		if n > 1 && n < 22 && !errors.Is(err, tape.ErrAborted) {
			t.Errorf("write %d fails: the file reads with %v", n, err)
		}
		if n == 1 && !errors.Is(err, tape.ErrEndOfData) {
			t.Errorf("no block: %v", err)
		}
		if n <= 21 && int64(len(got)) != w.Written() {
			t.Errorf("write %d fails: %d bytes, want %d", n, len(got), w.Written())
		}
	}
}

func TestBadFilesAreToldApart(t *testing.T) {
	noLeaks(t)
	block := func(seq uint32, last bool) []byte {
		b := make([]byte, tape.BlockSize)
		tapefile.BlockHeader{Size: 10, Seq: seq, Last: last}.Put(b)
		return b
	}
	damaged := block(1, false)
	damaged[11] = 0xff
	for _, tc := range []struct {
		name   string
		blocks [][]byte
		want   error
		n      int // bytes before it
	}{
		{"nothing", nil, tape.ErrEndOfData, 0},
		{"only a filemark", [][]byte{nil}, tape.ErrFilemark, 0},
		{"a foreign tape", [][]byte{make([]byte, 10240)}, tape.ErrForeign, 0},
		{"a foreign block", [][]byte{block(0, false), make([]byte, tape.BlockSize)}, tape.ErrForeign, 10},
		{"a damaged header", [][]byte{block(0, false), damaged}, tapefile.ErrFormat, 10},
		{"no last block", [][]byte{block(0, false), block(1, false), nil}, tape.ErrAborted, 20},
		{"no last block and no filemark", [][]byte{block(0, false)}, tape.ErrAborted, 10},
		{"a file that starts late", [][]byte{block(1, true), nil}, tape.ErrSequence, 0},
		{"a block twice", [][]byte{block(0, false), block(0, false)}, tape.ErrSequence, 10},
		{"a block is missing", [][]byte{block(0, false), block(2, true), nil}, tape.ErrSequence, 10},
		{"a block behind the last", [][]byte{block(0, true), block(1, true), nil}, tape.ErrSequence, 10},
		{"no filemark", [][]byte{block(0, true)}, nil, 10},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := read(t, &memDrive{blocks: tc.blocks})
			if !errors.Is(err, tc.want) || len(got) != tc.n {
				t.Errorf("%d bytes, %v; want %d, %v", len(got), err, tc.n, tc.want)
			}
		})
	}
}

func TestLookingAtTheFirstBlockReadsNoMore(t *testing.T) {
	noLeaks(t)
	d := &memDrive{}
	if _, err := write(t, d, tape.GiveUp, bytesOf(200*tapefile.PayloadSize), false); err != nil {
		t.Fatal(err)
	}
	d.at = 0
	r, err := tape.NewReader(d)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if d.reads != 1 {
		t.Errorf("%d blocks were read", d.reads)
	}
	if _, err := io.ReadFull(r, make([]byte, 70*tapefile.PayloadSize)); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil || d.reads > 71+tape.RingBlocks {
		t.Errorf("%d blocks were read for 71: %v", d.reads, err)
	}
	if _, err := r.Read(make([]byte, 1)); err == nil {
		t.Error("a closed file can be read")
	}
}
