package nbdclient

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

// FuzzReplies lets a server answer one READ of 4096 bytes with any bytes. A
// read that succeeds must have been answered completely: the check below
// parses the same bytes on its own and knows which were covered.
func FuzzReplies(f *testing.F) {
	const off, length = 4096, 4096
	for _, mode := range []nbd.Mode{nbd.Simple, nbd.Structured, nbd.Extended} {
		s := &fake{mode: mode}
		r := nbd.Request{Type: nbd.CmdRead, Cookie: 1, Offset: off, Length: length}
		whole, _ := s.honest(bytes.Repeat([]byte("x"), 8192))(r, nil)
		f.Add(byte(mode), whole)
		f.Add(byte(mode), join(
			s.chunk(r, 0, nbd.ChunkOffsetData, dataAt(off+96, bytes.Repeat([]byte("y"), 4000))),
			s.chunk(r, nbd.FlagDone, nbd.ChunkOffsetHole, holeAt(off, 96))))
		fail := nbd.ChunkFailure{Error: nbd.Error{Errno: nbd.EIO, Text: "bad"}}
		f.Add(byte(mode), s.chunk(r, nbd.FlagDone, nbd.ChunkError, fail.Append(nil, nbd.ChunkError)))
		f.Add(byte(mode), nbd.SimpleReply{Errno: nbd.EIO, Cookie: 1}.Append(nil))
	}
	f.Fuzz(func(t *testing.T, m byte, answer []byte) {
		s := &fake{mode: nbd.Mode(m % 3), size: 1 << 20}
		dial := func(context.Context, string, string) (net.Conn, error) {
			a, b := net.Pipe()
			go func() {
				defer func() { _ = b.Close() }()
				if s.shake(b) != nil {
					return
				}
				if _, err := io.ReadFull(b, make([]byte, nbd.RequestHeaderSize(s.mode))); err != nil {
					return
				}
				_, _ = b.Write(answer)
			}()
			return a, nil
		}
		im, err := Open(t.Context(), fakeURI, Options{Dial: dial, Patience: -1, Timeout: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		got := bytes.Repeat([]byte{0xee}, length)
		_, err = im.ReadAt(got, off)
		_ = im.Close()
		if err != nil {
			return
		}
		want, ok := cover(s.mode, answer, off, length)
		if !ok || !bytes.Equal(got, want) {
			t.Fatalf("a read succeeded (%v) that was answered with %x", ok, answer)
		}
	})
}

// cover is what a read must be made of; not ok unless every byte came once
// before the reply was done.
func cover(mode nbd.Mode, b []byte, off, length int) (data []byte, ok bool) {
	data = make([]byte, length)
	count := make([]int, length)
	if mode == nbd.Simple {
		r, err := nbd.ParseSimpleReply(b)
		return b[min(len(b), 16):][:length], err == nil && r.Errno == 0 && r.Cookie == 1
	}
	for {
		c, err := nbd.ParseChunk(b, mode)
		if err != nil {
			return nil, false
		}
		b = b[nbd.ChunkHeaderSize(mode):]
		p := b[:c.Length]
		b = b[c.Length:]
		switch c.Type {
		case nbd.ChunkOffsetData:
			h, _ := nbd.ParseHole(append(bytes.Clone(p[:8]), 0, 0, 0, 0))
			at := int(h.Offset) - off
			copy(data[at:], p[8:])
			for i := range p[8:] {
				count[at+i]++
			}
		case nbd.ChunkOffsetHole:
			h, _ := nbd.ParseHole(p)
			for i := range int(h.Length) {
				count[int(h.Offset)-off+i]++
			}
		}
		if c.Flags&nbd.FlagDone != 0 {
			break
		}
	}
	for _, n := range count {
		if n != 1 {
			return nil, false
		}
	}
	return data, true
}

// FuzzServer lets a server say anything from its first byte on. Whatever it is,
// opening, reading and asking for extents end.
func FuzzServer(f *testing.F) {
	hello := nbd.AppendGreeting(nil, nbd.FixedNewstyle|nbd.NoZeroes)
	info := nbd.Info{Type: nbd.InfoExport, Size: 1 << 20, Flags: nbd.HasFlags}.Append(nil)
	for _, s := range []*fake{{mode: nbd.Structured}, {mode: nbd.Extended}, {mode: nbd.Simple}} {
		s.contexts = []string{nbd.BaseAllocation}
		ext, _ := s.option(nbd.OptExtendedHeaders, nil)
		str, _ := s.option(nbd.OptStructuredReply, nil)
		if s.mode == nbd.Extended {
			str = nil
		}
		r := nbd.Request{Type: nbd.CmdRead, Cookie: 1, Length: 512}
		data, _ := s.honest(make([]byte, 512))(r, nil)
		f.Add(join(hello, ext, str,
			nbd.AppendOptionReply(nil, nbd.OptSetMetaContext, nbd.RepMetaContext, nbd.MetaContext{ID: 1, Name: nbd.BaseAllocation}.Append(nil)),
			nbd.AppendOptionReply(nil, nbd.OptSetMetaContext, nbd.RepAck, nil),
			nbd.AppendOptionReply(nil, nbd.OptGo, nbd.RepInfo, info),
			nbd.AppendOptionReply(nil, nbd.OptGo, nbd.RepAck, nil), data))
	}
	f.Fuzz(func(t *testing.T, says []byte) {
		dial := pipeDial(func(nc net.Conn) {
			go func() { _, _ = io.Copy(io.Discard, nc) }()
			_, _ = nc.Write(says)
			_ = nc.Close()
		})
		im, err := Open(t.Context(), fakeURI, Options{Dial: dial, Patience: -1, Timeout: 10 * time.Second})
		if err != nil {
			return
		}
		_, _ = im.ReadAt(make([]byte, 512), 0)
		if im.Size() > 0 {
			_, _ = im.ExtentAt(0)
		}
		if err := im.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
