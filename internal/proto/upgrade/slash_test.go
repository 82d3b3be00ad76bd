package upgrade

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// sender writes requests as a client does that has its own HTTP/2.
type sender struct {
	f     *http2.Framer
	enc   *hpack.Encoder
	block bytes.Buffer
	id    uint32
}

func newSender(w io.Writer, r io.Reader) *sender {
	s := &sender{f: http2.NewFramer(w, r), id: 1}
	s.enc = hpack.NewEncoder(&s.block)
	return s
}

func (s *sender) send(t testing.TB, path, body string, p http2.HeadersFrameParam) {
	t.Helper()
	s.block.Reset()
	for _, f := range []hpack.HeaderField{{Name: ":method", Value: "POST"}, {Name: ":path", Value: path}, {Name: ":scheme", Value: "https"}, {Name: "x-same", Value: "again and again"}} {
		if err := s.enc.WriteField(f); err != nil {
			t.Fatal(err)
		}
	}
	p.StreamID, p.BlockFragment, p.EndStream = s.id, s.block.Bytes(), body == ""
	err := s.f.WriteHeaders(p)
	if err == nil && body != "" {
		err = s.f.WriteData(s.id, true, []byte(body))
	}
	if err != nil {
		t.Fatal(err)
	}
	s.id += 2
}

func TestPathsWithoutASlashGetOne(t *testing.T) {
	srv, _ := server(t, t.Context(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %d %s %v", r.URL.Path, r.URL.RawQuery, len(body), r.Header.Get("X-Same"), err)
	}))
	conn := dial(t, srv)
	if _, err := io.WriteString(conn, "GET /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: "+Backup+"\r\n\r\n"+http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, len("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: "+Backup+"\r\n\r\n"))
	if _, err := io.ReadFull(conn, head); err != nil {
		t.Fatal(err)
	}
	c := newSender(conn, conn)
	if err := c.f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	c.send(t, "fixed_index?size=1&archive-name=a.img.fidx", "", http2.HeadersFrameParam{EndHeaders: true})
	c.send(t, "fixed_chunk", strings.Repeat("x", 12_000), http2.HeadersFrameParam{EndHeaders: true, PadLength: 9})
	c.send(t, "/with/one", "y", http2.HeadersFrameParam{EndHeaders: true, Priority: http2.PriorityParam{Weight: 3, StreamDep: 1, Exclusive: false}})
	c.send(t, "finish", "", http2.HeadersFrameParam{EndHeaders: true})
	got := map[uint32]string{}
	for done := 0; done < 4; {
		fr, err := c.f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch fr := fr.(type) {
		case *http2.DataFrame:
			if got[fr.StreamID] += string(fr.Data()); fr.StreamEnded() {
				done++
			}
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			t.Fatalf("%v", fr)
		}
	}
	for id, want := range map[uint32]string{
		1: "/fixed_index size=1&archive-name=a.img.fidx 0 again and again <nil>",
		3: "/fixed_chunk  12000 again and again <nil>",
		5: "/with/one  1 again and again <nil>",
		7: "/finish  0 again and again <nil>",
	} {
		if got[id] != want {
			t.Errorf("%q, want %q", got[id], want)
		}
	}
}

// begins is what a client says at first, and the length of it without headers.
func begins(t testing.TB, path string, p http2.HeadersFrameParam) []byte {
	var b bytes.Buffer
	b.WriteString(http2.ClientPreface)
	c := newSender(&b, nil)
	if err := c.f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	c.send(t, path, "body", p)
	c.send(t, path, "", p)
	return b.Bytes()
}

// What cannot be a client without slashes goes through as it is; of those, too,
// nothing is lost or added but the slashes.
func FuzzWhatComesGoesThrough(f *testing.F) {
	whole := http2.HeadersFrameParam{EndHeaders: true}
	for _, path := range []string{"/a", "a", "*", ""} {
		f.Add(begins(f, path, whole))
	}
	f.Add(begins(f, "a", http2.HeadersFrameParam{}))
	f.Add(begins(f, "/a", http2.HeadersFrameParam{EndHeaders: true, PadLength: 200}))
	f.Add([]byte(http2.ClientPreface + "\x00\x00\x01\x01\x0c\x00\x00\x00\x01\xff"))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &slashes{r: bytes.NewReader(b)}
		got, err := io.ReadAll(s)
		slow := &slashes{r: iotest.OneByteReader(bytes.NewReader(b))}
		again, err2 := io.ReadAll(iotest.OneByteReader(slow))
		if !bytes.Equal(got, again) || (err == nil) != (err2 == nil) {
			t.Fatalf("%x and %x, %v and %v", got, again, err, err2)
		}
		if s.raw && !bytes.Equal(got, b) {
			t.Fatalf("%x went through as %x", b, got)
		}
	})
}

func TestUsualConnectionsAreReadAsTheyAre(t *testing.T) {
	whole := http2.HeadersFrameParam{EndHeaders: true}
	for name, b := range map[string][]byte{
		"slashes":                   begins(t, "/a?b", whole),
		"all of the server":         begins(t, "*", whole),
		"no path":                   begins(t, "", whole),
		"headers in several frames": begins(t, "a", http2.HeadersFrameParam{}),
	} {
		s := &slashes{r: bytes.NewReader(b)}
		if got, err := io.ReadAll(s); !bytes.Equal(got, b) || err != nil || !s.through() {
			t.Errorf("%s: %q, %v, through %v", name, got, err, s.through())
		}
	}
	b := begins(t, "a", whole)
	s := &slashes{r: bytes.NewReader(b)}
	if got, err := io.ReadAll(s); bytes.Equal(got, b) || err != nil || s.through() {
		t.Errorf("without slashes: %q, %v", got, err)
	}
}
