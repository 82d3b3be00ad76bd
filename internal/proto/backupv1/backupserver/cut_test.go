package backupserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
	"github.com/holdfast-backup/holdfast/internal/proto/upgrade"
)

// cutter is a connection that is cut before a frame. It counts the frames that
// the client writes, and the cut may fall into the middle of one.
type cutter struct {
	net.Conn
	mu     sync.Mutex
	left   int // frames that still pass
	inside int // of the cut frame, how many bytes pass
	rest   int // bytes to the end of the current frame
	head   []byte
	frames int
}

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

func (c *cutter) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := 0; i < len(p); {
		if c.rest > 0 {
			k := min(c.rest, len(p)-i)
			c.rest -= k
			i += k
			continue
		}
		c.head = append(c.head, p[i])
		i++
		if len(c.head) < 9 {
			continue
		}
		if c.frames == c.left {
			n, _ := c.Conn.Write(p[:min(i, max(0, i-9+c.inside))])
			_ = c.Conn.Close()
			return n, io.ErrClosedPipe
		}
		c.frames++
		c.rest = int(c.head[0])<<16 | int(c.head[1])<<8 | int(c.head[2])
		c.head = c.head[:0]
	}
	return c.Conn.Write(p)
}

// small makes a backup of one archive of each kind. It stops at the first error.
func small(ctx context.Context, c *upgrade.Client, s names.Snapshot, encode func([]byte) []byte) error {
	do := func(method, path string, q url.Values, body any) error {
		var from io.Reader
		kind := ""
		if raw, ok := body.([]byte); ok {
			from = bytes.NewReader(raw)
		} else if body != nil {
			text, err := json.Marshal(body)
			if err != nil {
				return err
			}
			from, kind = bytes.NewReader(text), "application/json"
		}
		r, err := http.NewRequestWithContext(ctx, method, path+"?"+q.Encode(), from)
		if err != nil {
			return err
		}
		if kind != "" {
			r.Header.Set("Content-Type", kind)
		}
		resp, err := c.Do(r)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		return rest.Answer(resp, nil)
	}
	var files []manifest.File
	for wid, kind := range []string{"fixed", "dynamic"} {
		wid++
		data := []byte("content of the " + kind + " archive")
		raw, d, n := encode(data), digest.Of(data), len(data)
		name, sum := "d.img.fidx", sumOf(d)
		create := values("archive-name", name, "size", n)
		if kind == "dynamic" {
			name, sum = "r.pxar.didx", digest.Of(append([]byte{byte(n), 0, 0, 0, 0, 0, 0, 0}, d[:]...))
			create = values("archive-name", name)
		}
		for _, err := range []error{
			do("POST", "/"+kind+"_index", create, nil),
			do("POST", "/"+kind+"_chunk", values("wid", wid, "digest", d, "size", n, "encoded-size", len(raw)), raw),
			do("PUT", "/"+kind+"_index", nil, list{"wid": wid, "digest-list": []digest.Digest{d}, "offset-list": []int{0}}),
			do("POST", "/"+kind+"_close", values("wid", wid, "chunk-count", 1, "size", n, "csum", sum), nil),
		} {
			if err != nil {
				return err
			}
		}
		files = append(files, manifest.File{Filename: name, CryptMode: manifest.ModeNone, Size: uint64(n), Csum: sum})
	}
	m := manifest.New(s)
	m.Files = files
	text, err := m.Marshal()
	if err != nil {
		return err
	}
	raw := encode(text)
	if err := do("POST", "/blob", values("file-name", "index.json.blob", "encoded-size", len(raw)), raw); err != nil {
		return err
	}
	return do("POST", "/finish", nil, nil)
}

// A backup whose connection is cut leaves nothing, wherever that happens, and
// the next one of the same time works.
func TestConnectionIsCutAtEveryFrame(t *testing.T) {
	s, _ := store(t)
	run := func(snap names.Snapshot, frames, inside int) (sent int, client, server error) {
		ses, err := Begin(t.Context(), config(s, snap))
		if err != nil {
			t.Fatalf("cut before frame %d: the next backup does not begin: %v", frames, err)
		}
		near, far := pipe(t)
		ended := make(chan error, 1)
		go func() { ended <- ses.Serve(context.WithoutCancel(t.Context()), upgrade.New(far)) }()
		cut := &cutter{Conn: near, left: frames, inside: inside, rest: len(preface)}
		c, err := upgrade.NewClient(t.Context(), cut, "server")
		if err == nil {
			err = small(t.Context(), c, snap, func(b []byte) []byte { return encode(t, b) })
			_ = c.Close()
		}
		_ = near.Close()
		return cut.frames, err, <-ended
	}
	total, cerr, serr := run(vm100, 1<<30, 0)
	if cerr != nil || serr != nil || total < 15 {
		t.Fatalf("%d frames, %v, %v", total, cerr, serr)
	}
	visibleNow := 1
	for n := range total {
		snap := at(vm100, int64(n)+1)
		_, cerr, serr := run(snap, n, n%10)
		got := visible(t, s, vm100.Group)
		switch {
		case serr == nil: // the last frames are no part of the backup
			visibleNow++
		case !errors.Is(serr, ErrUnfinished):
			t.Errorf("cut before frame %d: the session ended with %v", n, serr)
		}
		if cerr == nil && serr != nil {
			t.Errorf("cut before frame %d: the client thinks all is well, the server says %v", n, serr)
		}
		if len(got) != visibleNow {
			t.Fatalf("cut before frame %d: %d snapshots are visible, want %d: %v", n, len(got), visibleNow, got)
		}
		if serr == nil {
			continue
		}
		if _, cerr, serr := run(snap, 1<<30, 0); cerr != nil || serr != nil { // the same time again
			t.Fatalf("after a cut before frame %d: %v, %v", n, cerr, serr)
		}
		visibleNow++
	}
	verify(t, s, visibleNow)
}

// pipe is a connection of two ends over TCP.
func pipe(t testing.TB) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if near, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return near, far
}
