package socket

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/scsi"
)

// memory is a unit that keeps what was last written.
type memory struct {
	mu   sync.Mutex
	kept []byte
	err  error // of every command
}

func (m *memory) Execute(_, out, in []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if out != nil {
		m.kept = append([]byte(nil), out...)
		return len(out), m.err
	}
	return copy(in, m.kept), m.err
}

// serve serves a unit for the time of the test.
func serve(t *testing.T, m *memory) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, m, func(err error) { t.Logf("a client: %v", err) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return path
}

func dial(t *testing.T, path string) *Transport {
	t.Helper()
	tr, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return tr
}

func read(n int) scsi.Command {
	return scsi.Command{CDB: []byte{0x08, 0, byte(n >> 16), byte(n >> 8), byte(n), 0}, Dir: scsi.In, Data: make([]byte, n), Timeout: time.Minute}
}

func write(b []byte) scsi.Command {
	return scsi.Command{CDB: []byte{0x0a, 0, 0, 0, 0, 0}, Dir: scsi.Out, Data: b, Timeout: time.Minute}
}

func TestDataGoesThroughASocketAndBack(t *testing.T) {
	path := serve(t, &memory{})
	a, b := dial(t, path), dial(t, path) // what one writes the other reads
	for _, size := range []int{1, 17, 256 << 10, keptBuffer + 1, 5} {
		want := bytes.Repeat([]byte{byte(size), 2, 3}, size)[:size]
		if n, err := a.Do(write(want)); n != size || err != nil {
			t.Fatalf("wrote %d of %d bytes: %v", n, size, err)
		}
		c := read(size + 3)
		if n, err := b.Do(c); err != nil || !bytes.Equal(c.Data[:n], want) {
			t.Fatalf("read %d of %d bytes: %v", n, size, err)
		}
	}
}

func TestWhatAUnitSaysComesThroughASocket(t *testing.T) {
	m := &memory{kept: []byte("abc")}
	tr := dial(t, serve(t, m))
	for _, want := range []error{
		&scsi.Sense{Op: scsi.Read6, Filemark: true, ASCQ: 1, Info: -5, Valid: true},
		&scsi.StatusError{Op: scsi.Read6, Status: scsi.ReservationConflict},
		&scsi.TransportError{Op: scsi.Read6, Timeout: true, Err: errors.New("it sleeps")},
		&scsi.TransportError{Op: scsi.Read6, Err: errors.New(strings.Repeat("long ", 100))},
	} {
		m.mu.Lock()
		m.err = want
		m.mu.Unlock()
		n, err := tr.Do(read(8))
		text := want.Error()
		if e, ok := errors.AsType[*scsi.TransportError](want); ok {
			text = (&scsi.TransportError{Op: e.Op, Timeout: e.Timeout, Err: errors.New(e.Err.Error()[:min(255, len(e.Err.Error()))])}).Error()
			if n != 0 {
				t.Errorf("%d bytes came without an answer", n)
			}
		} else if _, ok := scsi.AsSense(want); ok && n != 3 {
			t.Errorf("%d bytes came with a sense", n)
		}
		if err == nil || err.Error() != text {
			t.Errorf("got %v, want %s", err, text)
		}
	}
}

func TestAServerThatDiesLeavesAnUnknownState(t *testing.T) {
	here, there := net.Pipe()
	go func() {
		_, _ = io.WriteString(there, greeting)
		_, _ = io.ReadFull(there, make([]byte, requestSize))
		_ = there.Close()
	}()
	tr, err := NewTransport(here)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // and no second try gets through
		if _, err := tr.Do(read(8)); !isTransport(err, false) {
			t.Fatalf("err = %v", err)
		}
	}
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Do(read(8)); !isTransport(err, false) || !errors.Is(err, os.ErrClosed) {
		t.Fatalf("err = %v", err)
	}
}

func isTransport(err error, timeout bool) bool {
	e, ok := errors.AsType[*scsi.TransportError](err)
	return ok && e.Timeout == timeout
}

func TestAnAnswerThatDoesNotComeIsATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		go func() {
			_, _ = io.WriteString(there, greeting)
			_, _ = io.Copy(io.Discard, there)
		}()
		tr, err := NewTransport(here)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tr.Do(read(8)); !isTransport(err, true) {
			t.Fatalf("err = %v", err)
		}
		if err := tr.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAnotherServerIsNotTakenForOne(t *testing.T) {
	here, there := net.Pipe()
	go func() { _, _ = io.WriteString(there, "220 mail.example ESMTP\r\n") }()
	if _, err := NewTransport(here); !errors.Is(err, ErrProtocol) {
		t.Fatalf("err = %v", err)
	}
}

func TestARequestThatBreaksTheRulesEndsTheConnection(t *testing.T) {
	path := serve(t, &memory{})
	good := appendRequest(nil, read(8))
	for name, spoil := range map[string]func(b []byte){
		"another mark":           func(b []byte) { b[0] = 'X' },
		"a short CDB":            func(b []byte) { b[4] = 5 },
		"a long CDB":             func(b []byte) { b[4] = 17 },
		"an unknown direction":   func(b []byte) { b[5] = 3 },
		"data without direction": func(b []byte) { b[5] = 0 },
		"too much data":          func(b []byte) { b[8] = 0xff },
		"no timeout":             func(b []byte) { clear(b[12:16]) },
	} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		b := bytes.Clone(good)
		spoil(b)
		if _, err := conn.Write(b); err != nil {
			t.Fatal(err)
		}
		if got, _ := io.ReadAll(conn); string(got) != greeting {
			t.Errorf("%s was answered %q", name, got[len(greeting):])
		}
		_ = conn.Close()
	}
}

func FuzzRequest(f *testing.F) {
	f.Add(appendRequest(nil, read(8)))
	f.Add(appendRequest(nil, write([]byte("abc"))))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, n, err := parseRequest(b)
		if err != nil {
			return
		}
		c.Data = make([]byte, n)
		again, m, err := parseRequest(appendRequest(nil, c))
		if err != nil || m != n || !bytes.Equal(again.CDB, c.CDB) || again.Dir != c.Dir || again.Timeout != c.Timeout {
			t.Fatalf("%+v became %+v: %v", c, again, err)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add(appendAnswer(nil, answerOf(3, &scsi.Sense{Key: scsi.NotReady})), 8)
	f.Add(appendAnswer(nil, answerOf(0, &scsi.TransportError{Err: errors.New("gone")})), 8)
	f.Fuzz(func(t *testing.T, b []byte, length int) {
		a, err := readAnswer(bytes.NewReader(b), length)
		if err != nil {
			return
		}
		_ = a.err(scsi.Read6)
		again, err := readAnswer(bytes.NewReader(appendAnswer(nil, a)), length)
		if err != nil || again.moved != a.moved || again.outcome != a.outcome || !bytes.Equal(again.text, a.text) {
			t.Fatalf("%+v became %+v: %v", a, again, err)
		}
	})
}
