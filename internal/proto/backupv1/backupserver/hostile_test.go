package backupserver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/proto/upgrade"
)

// raw connects without a client in between.
func raw(t *testing.T, c Config) (io.ReadWriteCloser, chan error) {
	t.Helper()
	ses, err := Begin(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	near, far := pipe(t)
	ended := make(chan error, 1)
	go func() {
		defer close(ended)
		ended <- ses.Serve(context.WithoutCancel(t.Context()), upgrade.New(far))
	}()
	t.Cleanup(func() {
		_ = near.Close()
		for range ended { // whoever has not been told
		}
	})
	return near, ended
}

func TestWhatIsNoHTTP2EndsTheSession(t *testing.T) {
	s, _ := store(t)
	for _, b := range []string{
		"", "GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01 more TLS", preface, preface + "garbage that is no frame at all",
		preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\xff\xff\xff\x00\x00\x00\x00\x00\x01", // a frame of 16 MiB
	} {
		conn, ended := raw(t, config(s, vm100))
		if _, err := io.WriteString(conn, b); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		if err := <-ended; !errors.Is(err, ErrUnfinished) {
			t.Errorf("%q: %v", b, err)
		}
	}
	full(t, s, vm100)
}

// framer begins HTTP/2 by hand.
func framer(t *testing.T, conn io.ReadWriteCloser) *http2.Framer {
	t.Helper()
	if _, err := io.WriteString(conn, preface); err != nil {
		t.Fatal(err)
	}
	f := http2.NewFramer(conn, conn)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return f
}

// headers writes the beginning of a call.
func headers(t *testing.T, f *http2.Framer, stream uint32, method, path string, more ...hpack.HeaderField) {
	t.Helper()
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	fields := append([]hpack.HeaderField{
		{Name: ":method", Value: method}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "localhost:8007"}, {Name: ":path", Value: path},
	}, more...)
	for _, h := range fields {
		if err := e.WriteField(h); err != nil {
			t.Fatal(err)
		}
	}
	block, first := b.Bytes(), true
	for { // a server that has had enough closes the connection
		part := block[:min(len(block), 16<<10)]
		block = block[len(part):]
		var err error
		if first {
			err = f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: part, EndHeaders: len(block) == 0})
		} else {
			err = f.WriteContinuation(stream, len(block) == 0, part)
		}
		if first = false; err != nil || len(block) == 0 {
			return
		}
	}
}

// answerTo reads frames up to the headers of an answer.
func answerTo(t *testing.T, f *http2.Framer, stream uint32) string {
	t.Helper()
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch fr := fr.(type) {
		case *http2.SettingsFrame:
			if !fr.IsAck() {
				if err := f.WriteSettingsAck(); err != nil {
					t.Fatal(err)
				}
			}
		case *http2.MetaHeadersFrame:
			if fr.StreamID == stream {
				return fr.PseudoValue("status")
			}
		case *http2.RSTStreamFrame:
			if fr.StreamID == stream {
				return fr.ErrCode.String()
			}
		}
	}
}

func TestHugeHeadersEndTheSession(t *testing.T) {
	s, _ := store(t)
	conn, ended := raw(t, config(s, vm100))
	f := framer(t, conn)
	headers(t, f, 1, "GET", "/previous_backup_time?"+strings.Repeat("b", 20<<10))
	if err := f.WriteData(1, true, nil); err != nil {
		t.Fatal(err)
	}
	if got := answerTo(t, f, 1); got != "200" {
		t.Errorf("answer to a long query: %s", got)
	}
	headers(t, f, 3, "GET", "/previous_backup_time", hpack.HeaderField{Name: "x-long", Value: strings.Repeat("a", 1<<20)})
	if err := <-ended; !errors.Is(err, ErrUnfinished) {
		t.Errorf("err = %v", err)
	}
	full(t, s, vm100)
}

// A body that does not come holds up nobody, and no memory before its first
// bytes are there.
func TestSlowBodiesHoldUpNobody(t *testing.T) {
	s, _ := store(t)
	mem := NewMemory(MemoryOptions{Bodies: 8 << 20, Limit: 40 << 20, Patience: 100 * time.Millisecond, Workers: 1})
	c := config(s, vm100)
	c.Memory = mem
	conn, ended := raw(t, c)
	f := framer(t, conn)
	headers(t, f, 1, "POST", "/dynamic_index?archive-name=a.didx")
	if err := f.WriteData(1, true, nil); err != nil {
		t.Fatal(err)
	}
	if got := answerTo(t, f, 1); got != "200" {
		t.Fatal(got)
	}
	const slow = 100 // streams that send nothing, then two that begin
	q := "/dynamic_chunk?" + values("wid", 1, "digest", digest.Of(nil), "size", 16<<20, "encoded-size", 16<<20).Encode()
	for i := range uint32(slow) {
		headers(t, f, 3+2*i, "POST", q)
	}
	next := uint32(3 + 2*slow)
	for range 2 {
		headers(t, f, next, "POST", q)
		if err := f.WriteData(next, false, encode(t, []byte("the beginning of a chunk"))); err != nil {
			t.Fatal(err)
		}
		next += 2
	}
	// A third one is beyond the limit, and is told so; a small one passes.
	data := []byte("a small one")
	small := encode(t, data)
	headers(t, f, next, "POST", "/dynamic_chunk?"+values("wid", 1, "digest", digest.Of(data), "size", len(data), "encoded-size", len(small)).Encode())
	if err := f.WriteData(next, true, small); err != nil {
		t.Fatal(err)
	}
	if got := answerTo(t, f, next); got != "200" {
		t.Errorf("a small chunk beside slow ones: %s", got)
	}
	next += 2
	headers(t, f, next, "POST", q)
	if err := f.WriteData(next, true, small); err != nil {
		t.Fatal(err)
	}
	if got := answerTo(t, f, next); got != "400" {
		t.Errorf("an upload beyond the limit: %s", got)
	}
	_ = conn.Close() // nobody waits for what never came
	if err := <-ended; !errors.Is(err, ErrUnfinished) {
		t.Errorf("err = %v", err)
	}
	if mem.held != 0 || mem.busy != 0 {
		t.Errorf("%d bytes held, %d bodies busy", mem.held, mem.busy)
	}
	mem.Close()
	full(t, s, vm100)
}

// More is sent at a time than memory for bodies allows, by several archives
// whose chunks come interleaved.
func TestManyUploadsAtATimeShareLittleMemory(t *testing.T) {
	s, _ := store(t)
	c := config(s, vm100)
	c.Memory = NewMemory(MemoryOptions{Bodies: 5 << 20, Workers: 2})
	p := begin(t, c)
	p.ok("POST", "/dynamic_index", values("archive-name", "a.didx"), nil)
	var wg sync.WaitGroup
	for i := range 40 {
		noise := make([]byte, 3<<20)
		if _, err := rand.NewChaCha8([32]byte{byte(i)}).Read(noise); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { p.chunk("/dynamic_chunk", 1, noise) })
	}
	wg.Wait()
	_ = p.leave()
	if c.Memory.held != 0 || c.Memory.busy != 0 {
		t.Errorf("%d bytes held, %d bodies busy", c.Memory.held, c.Memory.busy)
	}
	if n := pagebuf.Outstanding(); n != 0 {
		t.Errorf("%d buffers are kept without a session", n)
	}
	c.Memory.Close()
}

// The same chunk may come several times at once: virtual machines with several
// drives do that.
func TestSameChunkUploadedAtTheSameTime(t *testing.T) {
	s, _ := store(t)
	p := begin(t, config(s, vm100))
	p.writers()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { p.chunk("/fixed_chunk", 1, block(1)) })
		wg.Go(func() { p.chunk("/dynamic_chunk", 2, block(1)) })
	}
	wg.Wait()
	d := digest.Of(block(1))
	p.append("/dynamic_index", 2, []digest.Digest{d}, 0)
	sum := digest.Of(append([]byte{0, 0, 64, 0, 0, 0, 0, 0}, d[:]...))
	p.ok("POST", "/dynamic_close", values("wid", 2, "chunk-count", 1, "size", 4*mib, "csum", sum), nil)
	tail := p.chunk("/fixed_chunk", 1, block(2)[:2*mib])
	p.append("/fixed_index", 1, []digest.Digest{d, tail, d}, 0, 8*mib, 4*mib)
	p.ok("POST", "/fixed_close", values("wid", 1, "chunk-count", 3, "size", 10*mib, "csum", sumOf(d, d, tail)), nil)
	p.manifest(vm100,
		manifest.File{Filename: "d.img.fidx", CryptMode: manifest.ModeNone, Size: 10 * mib, Csum: sumOf(d, d, tail)},
		manifest.File{Filename: "r.pxar.didx", CryptMode: manifest.ModeNone, Size: 4 * mib, Csum: sum})
	p.finish()
	verify(t, s, 1)
}

// The task is stopped: the client loses its connection, the snapshot goes.
func TestStoppedSessionLeavesNothing(t *testing.T) {
	s, _ := store(t)
	ses, err := Begin(t.Context(), config(s, vm100))
	if err != nil {
		t.Fatal(err)
	}
	near, far := pipe(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- ses.Serve(ctx, upgrade.New(far)) }()
	c, err := upgrade.NewClient(t.Context(), near, "server")
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequest(http.MethodPost, "/dynamic_index?archive-name=a.didx", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	stop := errors.New("stopped by the user")
	cancel(stop)
	if err := <-ended; !errors.Is(err, ErrUnfinished) || !errors.Is(err, stop) {
		t.Errorf("err = %v", err)
	}
	if got := visible(t, s, vm100.Group); len(got) > 0 {
		t.Errorf("visible: %v", got)
	}
}

// An independent HTTP/2 client speaks to the session.
func TestCurlBacksUp(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs curl")
		}
		t.Skip("needs curl")
	}
	s, _ := store(t)
	ses, err := Begin(t.Context(), config(s, vm100))
	if err != nil {
		t.Fatal(err)
	}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	near, url := listen(t)
	srv := &http.Server{Handler: ses, Protocols: &protocols} // each curl has a connection of its own
	go func() { _ = srv.Serve(near) }()
	do := func(want string, args ...string) {
		t.Helper()
		cmd := exec.Command(curl, append([]string{"-sS", "--http2-prior-knowledge", "--max-time", "20"}, args...)...)
		cmd.Stdin = bytes.NewReader(encode(t, []byte("memory: 512\n")))
		out, err := cmd.CombinedOutput()
		if err != nil || string(out) != want {
			t.Fatalf("curl %q: %q, %v, want %q", args, out, err, want)
		}
	}
	raw := encode(t, []byte("memory: 512\n"))
	do(`{"data":null}`, url+"/previous_backup_time")
	do(`{"data":null}`, "-X", "POST", "--data-binary", "@-", "-H", "Content-Type: application/octet-stream", url+"/blob?"+values("file-name", "a.conf.blob", "encoded-size", len(raw)).Encode())
	do("the manifest index.json.blob was not uploaded", "-X", "POST", url+"/finish")
	do("Path '/x' not found for GET.", url+"/x")
	_ = srv.Close()
	if err := ses.End(nil); !errors.Is(err, ErrUnfinished) {
		t.Errorf("err = %v", err)
	}
}
