// Package tapetest is the contract of tape.Drive as a suite of tests, for all
// who implement it.
package tapetest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/tape"
)

// Capacity is about how many bytes the media for Run hold: enough for its
// files, and soon full.
const Capacity = 64 << 20

// Run tests a drive. open gives one with an empty medium of about Capacity
// bytes at its beginning; Run closes it.
func Run(t *testing.T, open func(t *testing.T) tape.Drive) {
	for _, tc := range []struct {
		name string
		test func(t *testing.T, d tape.Drive)
	}{
		{"an empty medium ends at once", emptyMedium},
		{"files are found by their number", filesByNumber},
		{"reading goes on from file to file", readingOn},
		{"writing cuts the medium", writingCuts},
		{"a missing filemark is written at the end of the data", missingFilemark},
		{"a filemark alone is a file", emptyFile},
		{"formatting empties the medium", format},
		{"other sizes of blocks are refused", sizes},
		{"a stream comes back", stream},
		{"behind the early warning there is room for an end", early},
		{"without a medium nothing works", ejected},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := open(t)
			defer func() {
				if err := d.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			}()
			tc.test(t, d)
		})
	}
}

// Block is a block with its own content.
func Block(n int) []byte {
	b := bytes.Repeat([]byte{byte(n)}, tape.BlockSize)
	binary.LittleEndian.PutUint64(b, uint64(n))
	return b
}

func emptyMedium(t *testing.T, d tape.Drive) {
	at(t, d, 0)
	wantRead(t, d, tape.ErrEndOfData)
	if n, err := d.EndOfData(t.Context()); n != 0 || err != nil {
		t.Errorf("the end of the data is file %d, %v", n, err)
	}
	if err := d.Locate(t.Context(), 0); err != nil {
		t.Errorf("Locate(0): %v", err)
	}
	if err := d.Locate(t.Context(), 1); !errors.Is(err, tape.ErrEndOfData) {
		t.Errorf("Locate(1): %v", err)
	}
}

func filesByNumber(t *testing.T, d tape.Drive) {
	writeFiles(t, d, 1, 4, 2, 3, 1)
	at(t, d, 5)
	for _, n := range []int{3, 1, 4, 0, 2, 0, 4, 3, 1, 1} {
		if err := d.Locate(t.Context(), uint64(n)); err != nil {
			t.Fatalf("Locate(%d): %v", n, err)
		}
		at(t, d, n)
		wantBlock(t, d, 100*n)
		if n == 1 {
			wantBlock(t, d, 101) // from the middle of a file too
		}
	}
	if err := d.Locate(t.Context(), 5); err != nil {
		t.Errorf("Locate(5), behind the last file: %v", err)
	}
	wantRead(t, d, tape.ErrEndOfData)
	for _, n := range []uint64{6, 7, 1000} {
		if err := d.Locate(t.Context(), n); !errors.Is(err, tape.ErrEndOfData) {
			t.Errorf("Locate(%d): %v", n, err)
		}
	}
	if n, err := d.EndOfData(t.Context()); n != 5 || err != nil {
		t.Errorf("the end of the data is file %d, %v", n, err)
	}
	if err := d.Rewind(t.Context()); err != nil {
		t.Fatal(err)
	}
	at(t, d, 0)
	wantBlock(t, d, 0)
}

func readingOn(t *testing.T, d tape.Drive) {
	writeFiles(t, d, 2, 1)
	if err := d.Rewind(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantBlock(t, d, 0)
	at(t, d, 0)
	wantBlock(t, d, 1)
	wantRead(t, d, tape.ErrFilemark)
	at(t, d, 1)
	wantBlock(t, d, 100)
	wantRead(t, d, tape.ErrFilemark)
	at(t, d, 2)
	wantRead(t, d, tape.ErrEndOfData)
	wantRead(t, d, tape.ErrEndOfData)
}

func writingCuts(t *testing.T, d tape.Drive) {
	writeFiles(t, d, 2, 3, 2, 2)
	if err := d.Locate(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	wantBlock(t, d, 100)
	write(t, d, 7) // over the second block of file 1
	mark(t, d)
	if n, err := d.EndOfData(t.Context()); n != 2 || err != nil {
		t.Errorf("the end of the data is file %d, %v", n, err)
	}
	if err := d.Locate(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	wantBlock(t, d, 100)
	wantBlock(t, d, 7)
	wantRead(t, d, tape.ErrFilemark)
	wantRead(t, d, tape.ErrEndOfData)
}

func missingFilemark(t *testing.T, d tape.Drive) {
	writeFiles(t, d, 1)
	write(t, d, 1)
	write(t, d, 2)
	for range 2 { // the second time it is there
		if n, err := d.EndOfData(t.Context()); n != 2 || err != nil {
			t.Errorf("the end of the data is file %d, %v", n, err)
		}
	}
	write(t, d, 3)
	mark(t, d)
	if err := d.Locate(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	wantBlock(t, d, 1)
	wantBlock(t, d, 2)
	wantRead(t, d, tape.ErrFilemark)
	wantBlock(t, d, 3)
}

func emptyFile(t *testing.T, d tape.Drive) {
	mark(t, d)
	at(t, d, 1)
	if n, err := d.EndOfData(t.Context()); n != 1 || err != nil {
		t.Errorf("the end of the data is file %d, %v", n, err)
	}
	if err := d.Rewind(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantRead(t, d, tape.ErrFilemark)
	wantRead(t, d, tape.ErrEndOfData)
}

func format(t *testing.T, d tape.Drive) {
	for _, fast := range []bool{true, false} {
		writeFiles(t, d, 1, 1)
		if err := d.Format(t.Context(), fast); err != nil {
			t.Fatalf("Format(fast %v): %v", fast, err)
		}
		at(t, d, 0)
		wantRead(t, d, tape.ErrEndOfData)
	}
}

func sizes(t *testing.T, d tape.Drive) {
	for _, n := range []int{0, 512, tape.BlockSize - 1, tape.BlockSize + 1} {
		if _, err := d.WriteBlock(make([]byte, n)); err == nil {
			t.Errorf("a block of %d bytes was written", n)
		}
	}
	wantRead(t, d, tape.ErrEndOfData)
}

func stream(t *testing.T, d tape.Drive) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 80_000)
	for i := range 3 {
		w, err := tape.NewWriter(d, tape.GiveUp)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data[i:]); err != nil {
			t.Fatal(err)
		}
		if err := w.Finish(i == 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.Rewind(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		at(t, d, i)
		r, err := tape.NewReader(d)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if i == 1 && !errors.Is(err, tape.ErrIncomplete) || i != 1 && err != nil {
			t.Errorf("file %d: %v", i, err)
		}
		if !bytes.Equal(got, data[i:]) {
			t.Errorf("file %d: %d bytes came back of %d", i, len(got), len(data)-i)
		}
		_ = r.Close()
	}
}

func early(t *testing.T, d tape.Drive) {
	writeFiles(t, d, 1)
	blocks := 0
	for warned := false; !warned; blocks++ {
		if blocks > 2*Capacity/tape.BlockSize {
			t.Fatalf("no early warning after %d blocks", blocks)
		}
		var err error
		if warned, err = d.WriteBlock(Block(blocks)); err != nil {
			t.Fatalf("block %d: %v", blocks, err)
		}
	}
	if warned, err := d.WriteBlock(Block(blocks)); !warned || err != nil {
		t.Fatalf("a last block: early %v, %v", warned, err)
	}
	blocks++
	if _, err := d.WriteFilemark(); err != nil {
		t.Fatalf("the filemark: %v", err)
	}
	if err := d.Sync(t.Context()); err != nil {
		t.Fatalf("sync: %v", err)
	}
	var err error
	for n := 0; err == nil && n < 2*Capacity/tape.BlockSize; n++ {
		_, err = d.WriteBlock(Block(n))
	}
	if !errors.Is(err, tape.ErrFull) {
		t.Errorf("at the end: %v", err)
	}
	if err := d.Sync(t.Context()); err != nil {
		t.Errorf("sync at the end: %v", err)
	}
	if err := d.Locate(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for n := range blocks {
		wantBlock(t, d, n)
	}
	wantRead(t, d, tape.ErrFilemark)
}

func ejected(t *testing.T, d tape.Drive) {
	writeFiles(t, d, 1)
	if err := d.Eject(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, read := d.ReadBlock(make([]byte, tape.BlockSize))
	_, wrote := d.WriteBlock(Block(0))
	_, eod := d.EndOfData(t.Context())
	for what, err := range map[string]error{
		"ReadBlock": read, "WriteBlock": wrote, "EndOfData": eod,
		"Rewind": d.Rewind(t.Context()), "Locate": d.Locate(t.Context(), 0), "Format": d.Format(t.Context(), true),
	} {
		if !errors.Is(err, tape.ErrNoMedium) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// writeFiles writes files of so many blocks from the beginning; block k of file
// n is Block(100n+k).
func writeFiles(t *testing.T, d tape.Drive, sizes ...int) {
	t.Helper()
	for n, size := range sizes {
		for k := range size {
			write(t, d, 100*n+k)
		}
		mark(t, d)
	}
}

func write(t *testing.T, d tape.Drive, n int) {
	t.Helper()
	if early, err := d.WriteBlock(Block(n)); early || err != nil {
		t.Fatalf("write block %d: early %v, %v", n, early, err)
	}
}

func mark(t *testing.T, d tape.Drive) {
	t.Helper()
	if _, err := d.WriteFilemark(); err != nil {
		t.Fatalf("write a filemark: %v", err)
	}
}

func at(t *testing.T, d tape.Drive, file int) {
	t.Helper()
	if n, err := d.File(t.Context()); n != uint64(file) || err != nil {
		t.Fatalf("the drive stands in file %d, %v; want %d", n, err, file)
	}
}

func wantBlock(t *testing.T, d tape.Drive, n int) {
	t.Helper()
	b := make([]byte, tape.BlockSize)
	k, err := d.ReadBlock(b)
	if err != nil || !bytes.Equal(b[:k], Block(n)) {
		t.Fatalf("read %d bytes, %v, beginning with %x; want block %d", k, err, b[:8], n)
	}
}

func wantRead(t *testing.T, d tape.Drive, want error) {
	t.Helper()
	b := make([]byte, tape.BlockSize)
	if n, err := d.ReadBlock(b); !errors.Is(err, want) {
		t.Fatalf("read %d bytes, %v, beginning with %x; want %v", n, err, b[:8], want)
	}
}
