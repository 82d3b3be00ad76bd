package nbdclient

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

// fake is a server that does as it is told.
type fake struct {
	mode     nbd.Mode
	size     uint64
	flags    nbd.ExportFlags
	sizes    nbd.BlockSizes
	contexts []string
	noGo     bool
	// answer gets each request with its payload and returns all bytes of the
	// answer; an error ends the connection.
	answer func(r nbd.Request, payload []byte) ([]byte, error)

	mu    sync.Mutex
	conns int
}

var fakeURI = nbd.URI{Host: "fake", Port: 1}

// dial is for Options.Dial.
func (f *fake) dial(context.Context, string, string) (net.Conn, error) {
	f.mu.Lock()
	f.conns++
	f.mu.Unlock()
	a, b := net.Pipe()
	go func() {
		_ = f.serve(b)
		_ = b.Close()
	}()
	return a, nil
}

func (f *fake) dialed() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.conns
}

func (f *fake) serve(nc net.Conn) error {
	if err := f.shake(nc); err != nil {
		return err
	}
	for {
		b := make([]byte, nbd.RequestHeaderSize(f.mode))
		if _, err := io.ReadFull(nc, b); err != nil {
			return err
		}
		r, err := nbd.ParseRequest(b, f.mode)
		if err != nil {
			return err
		}
		payload := make([]byte, r.Payload(f.mode))
		if _, err := io.ReadFull(nc, payload); err != nil {
			return err
		}
		if r.Type == nbd.CmdDisc {
			return nil
		}
		reply, err := f.answer(r, payload)
		if err != nil {
			return err
		}
		if _, err := nc.Write(reply); err != nil {
			return err
		}
	}
}

func (f *fake) shake(nc net.Conn) error {
	if _, err := nc.Write(nbd.AppendGreeting(nil, nbd.FixedNewstyle|nbd.NoZeroes)); err != nil {
		return err
	}
	if _, err := io.ReadFull(nc, make([]byte, nbd.ClientFlagsSize)); err != nil {
		return err
	}
	for {
		b := make([]byte, nbd.OptionHeaderSize)
		if _, err := io.ReadFull(nc, b); err != nil {
			return err
		}
		h, err := nbd.ParseOptionHeader(b)
		if err != nil {
			return err
		}
		data := make([]byte, h.Length)
		if _, err := io.ReadFull(nc, data); err != nil {
			return err
		}
		reply, done := f.option(h.Option, data)
		if _, err := nc.Write(reply); err != nil || done {
			return err
		}
	}
}

func (f *fake) option(o nbd.Option, data []byte) (reply []byte, done bool) {
	refuse := nbd.AppendOptionReply(nil, o, nbd.RepErrUnsup, []byte("not here"))
	ack := nbd.AppendOptionReply(nil, o, nbd.RepAck, nil)
	switch o {
	case nbd.OptExtendedHeaders:
		if f.mode == nbd.Extended {
			return ack, false
		}
	case nbd.OptStructuredReply:
		if f.mode == nbd.Structured {
			return ack, false
		}
	case nbd.OptSetMetaContext:
		q, _ := nbd.ParseMetaRequest(data)
		for i, name := range f.contexts {
			for _, want := range q.Queries {
				if want == name {
					reply = nbd.AppendOptionReply(reply, o, nbd.RepMetaContext, nbd.MetaContext{ID: uint32(i + 7), Name: name}.Append(nil))
				}
			}
		}
		return append(reply, ack...), false
	case nbd.OptExportName:
		return nbd.AppendExportNameReply(nil, f.size, f.flags|nbd.HasFlags, true), true
	case nbd.OptGo:
		if f.noGo {
			return refuse, false
		}
		reply = nbd.AppendOptionReply(reply, o, nbd.RepInfo, nbd.Info{Type: nbd.InfoExport, Size: f.size, Flags: f.flags | nbd.HasFlags}.Append(nil))
		if f.sizes != (nbd.BlockSizes{}) {
			reply = nbd.AppendOptionReply(reply, o, nbd.RepInfo, nbd.Info{Type: nbd.InfoBlockSize, Sizes: f.sizes}.Append(nil))
		}
		return append(reply, ack...), true
	}
	return refuse, false
}

var errHangUp = errors.New("hang up")

// honest answers READ with the bytes of content, and everything else with
// success.
func (f *fake) honest(content []byte) func(nbd.Request, []byte) ([]byte, error) {
	return func(r nbd.Request, _ []byte) ([]byte, error) {
		var data []byte
		if r.Type == nbd.CmdRead {
			data = content[r.Offset:][:r.Length]
		}
		if f.mode == nbd.Simple {
			return append(nbd.SimpleReply{Cookie: r.Cookie}.Append(nil), data...), nil
		}
		if r.Type == nbd.CmdRead {
			return f.chunk(r, nbd.FlagDone, nbd.ChunkOffsetData, dataAt(r.Offset, data)), nil
		}
		return f.chunk(r, nbd.FlagDone, nbd.ChunkNone, nil), nil
	}
}

// chunk is a chunk of a reply to r.
func (f *fake) chunk(r nbd.Request, flags nbd.ChunkFlags, t nbd.ChunkType, payload []byte) []byte {
	c := nbd.Chunk{Flags: flags, Type: t, Cookie: r.Cookie, Offset: r.Offset, Length: uint64(len(payload))}
	return append(c.Append(nil, f.mode), payload...)
}

func dataAt(off uint64, data []byte) []byte {
	h := nbd.Hole{Offset: off}.Append(nil)
	return append(h[:8:8], data...)
}

func holeAt(off uint64, n uint32) []byte { return nbd.Hole{Offset: off, Length: n}.Append(nil) }

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
