package nbd_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

// FuzzParse gives the input to every parser: what parses is appended as the
// bytes that it came from.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`00000004 "disk" 00000001 0000000f "base:allocation"`,
		`00000004 "disk" 0001 0003`,
		`0003 00000001 00001000 02000000`,
		`0000 0000000000100000 048f`,
		`00000000 00001000 00000000 000ff000 00000003`,
		`00000002 00000001 0000010000000000 0000000000000003`,
		`00000005 0003 "bad" 0000000000001000`,
		`0000010000000000 00000002`,
		`21e41c71 0020 0001 0000000000000007 0000000000001000 0000000000000200`,
		`6e8a278c 0001 0006 0000000000000007 0000000000001000 0000000000000018`,
		`67446698 00000016 0000000000000007`,
		`"NBDMAGICIHAVEOPT" 0003`,
	} {
		f.Add(x(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		same := func(what string, err error, size int, appended func() []byte) {
			t.Helper()
			if err != nil {
				if !errors.Is(err, nbd.ErrFormat) {
					t.Fatalf("%s: %v is no ErrFormat", what, err)
				}
				return
			}
			if got := appended(); !bytes.Equal(got, b[:size]) {
				t.Fatalf("%s: %x became %x", what, b[:size], got)
			}
		}
		g, err := nbd.ParseGreeting(b)
		same("greeting", err, nbd.GreetingSize, func() []byte { return nbd.AppendGreeting(nil, g) })
		o, err := nbd.ParseOptionHeader(b)
		same("option", err, nbd.OptionHeaderSize, func() []byte { return o.Append(nil) })
		or, err := nbd.ParseOptionReply(b)
		same("option reply", err, nbd.OptionReplySize, func() []byte { return or.Append(nil) })
		ir, err := nbd.ParseInfoRequest(b)
		same("info request", err, len(b), func() []byte { return ir.Append(nil) })
		in, err := nbd.ParseInfo(b)
		if err == nil && in.Type <= nbd.InfoBlockSize {
			same("info", err, len(b), func() []byte { return in.Append(nil) })
		}
		sv, err := nbd.ParseServer(b)
		same("server", err, len(b), func() []byte { return sv.Append(nil) })
		mr, err := nbd.ParseMetaRequest(b)
		same("meta request", err, len(b), func() []byte { return mr.Append(nil) })
		mc, err := nbd.ParseMetaContext(b)
		same("meta context", err, len(b), func() []byte { return mc.Append(nil) })
		sf, err := nbd.ParseStatusFilter(b)
		same("filter", err, len(b), func() []byte { return sf.Append(nil) })
		h, err := nbd.ParseHole(b)
		same("hole", err, len(b), func() []byte { return h.Append(nil) })
		sr, err := nbd.ParseSimpleReply(b)
		same("simple reply", err, nbd.SimpleReplySize, func() []byte { return sr.Append(nil) })
		for _, m := range []nbd.Mode{nbd.Structured, nbd.Extended} {
			r, err := nbd.ParseRequest(b, m)
			same("request", err, nbd.RequestHeaderSize(m), func() []byte { return r.Append(nil, m) })
			c, err := nbd.ParseChunk(b, m)
			same("chunk", err, nbd.ChunkHeaderSize(m), func() []byte { return c.Append(nil, m) })
			s, err := nbd.ParseBlockStatus(b, m == nbd.Extended)
			if err == nil && m == nbd.Extended && bytes.Equal(b[4:8], make([]byte, 4)) {
				continue // a count that the length gave
			}
			same("block status", err, len(b), func() []byte { return s.Append(nil, m == nbd.Extended) })
		}
		for _, ct := range []nbd.ChunkType{nbd.ChunkError, nbd.ChunkErrorOffset} {
			e, err := nbd.ParseChunkFailure(b, ct)
			if err == nil && bytes.HasPrefix(b, make([]byte, 4)) {
				continue // no error is EINVAL
			}
			same("failure", err, len(b), func() []byte { return e.Append(nil, ct) })
		}
	})
}
