package records

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// counted counts the writes of a connection and can be made to fail.
type counted struct {
	net.Conn
	writes atomic.Int64
	fails  atomic.Bool
}

var errLine = errors.New("the line is cut")

func (c *counted) Write(p []byte) (int, error) {
	if c.fails.Load() {
		return 0, errLine
	}
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// pair returns both ends of a connection after the handshake.
func pair(t *testing.T) (client, server *Conn, below *counted) {
	t.Helper()
	made := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate
	defer made.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	below = &counted{Conn: near}
	client = Client(below, &tls.Config{InsecureSkipVerify: true})
	server = Server(far, &tls.Config{Certificates: made.TLS.Certificates})
	t.Cleanup(func() { _ = client.Close(); _ = server.Close() })
	shaken := make(chan error, 1)
	go func() { shaken <- server.Handshake() }()
	if err := errors.Join(client.Handshake(), <-shaken); err != nil {
		t.Fatal(err)
	}
	return client, server, below
}

func TestLongWritesTakeFewCalls(t *testing.T) {
	c, s, below := pair(t)
	want := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(want)
	before := below.writes.Load()
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(want)
		sent <- err
	}()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(s, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("what arrives is not what was sent: %v", err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if n := below.writes.Load() - before; n > 20 { // records are small at first
		t.Errorf("%d calls for 1 MiB", n)
	}
}

func TestWritesOfManyAreAllSent(t *testing.T) {
	c, s, _ := pair(t)
	sizes := []int{1, record, record + 1, 100_000, 3 * batch}
	var wg sync.WaitGroup
	total := int64(0)
	for i := range 20 {
		n := sizes[i%len(sizes)]
		total += int64(n)
		wg.Go(func() {
			if k, err := c.Write(make([]byte, n)); k != n || err != nil {
				t.Errorf("%d of %d, %v", k, n, err)
			}
		})
	}
	if _, err := io.CopyN(io.Discard, s, total); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

func TestFailedLongWriteSaysSoThenAndLater(t *testing.T) {
	c, _, below := pair(t)
	below.fails.Store(true)
	if _, err := c.Write(make([]byte, 50_000)); !errors.Is(err, errLine) {
		t.Errorf("err = %v", err)
	}
	below.fails.Store(false) // a hole in the stream is worse than an end
	for _, n := range []int{1, 50_000} {
		if _, err := c.Write(make([]byte, n)); !errors.Is(err, errLine) {
			t.Errorf("a later write of %d bytes: %v", n, err)
		}
	}
}

func TestCloseEndsAWriteThatHangs(t *testing.T) {
	c, _, _ := pair(t)
	done := make(chan error, 1)
	go func() {
		_, err := c.Write(make([]byte, 64<<20)) // nobody reads
		done <- err
	}()
	for c.busy.Load() == 0 {
		runtime.Gosched()
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err == nil {
		t.Error("the write calls itself complete")
	}
}
