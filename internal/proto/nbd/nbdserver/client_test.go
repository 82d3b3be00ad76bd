package nbdserver_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

// client is the smallest NBD client that can say everything, also what it
// should not.
type client struct {
	tb   testing.TB
	nc   net.Conn
	mode nbd.Mode
}

func (c *client) write(b ...[]byte) {
	c.tb.Helper()
	if _, err := c.nc.Write(bytes.Join(b, nil)); err != nil {
		c.tb.Fatal(err)
	}
}

func (c *client) read(n int) []byte {
	c.tb.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c.nc, b); err != nil {
		c.tb.Fatalf("read %d bytes: %v", n, err)
	}
	return b
}

// gone demands that the server has closed the connection.
func (c *client) gone() {
	c.tb.Helper()
	if k, err := io.Copy(io.Discard, c.nc); k != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		c.tb.Fatalf("the server sends %d more bytes, %v; it should have hung up", k, err)
	}
}

// greet reads the greeting and answers it.
func (c *client) greet(f nbd.HandshakeFlags) {
	c.tb.Helper()
	if got, err := nbd.ParseGreeting(c.read(nbd.GreetingSize)); err != nil || got != nbd.FixedNewstyle|nbd.NoZeroes {
		c.tb.Fatalf("greeting %v, %v", got, err)
	}
	c.write(nbd.AppendClientFlags(nil, f))
}

type reply struct {
	t    nbd.ReplyType
	data []byte
}

// replies reads the answers to an option up to the final one.
func (c *client) replies(o nbd.Option) []reply {
	c.tb.Helper()
	var all []reply
	for {
		h, err := nbd.ParseOptionReply(c.read(nbd.OptionReplySize))
		if err != nil || h.Option != o || h.Length > 64<<10 {
			c.tb.Fatalf("reply to %v: %+v, %v", o, h, err)
		}
		all = append(all, reply{h.Type, c.read(int(h.Length))})
		if h.Type == nbd.RepAck || h.Type.IsError() {
			return all
		}
	}
}

func (c *client) option(o nbd.Option, data []byte) []reply {
	c.tb.Helper()
	c.write(nbd.AppendOption(nil, o, data))
	return c.replies(o)
}

// final sends an option and returns how it ended.
func (c *client) final(o nbd.Option, data []byte) nbd.ReplyType {
	c.tb.Helper()
	all := c.option(o, data)
	return all[len(all)-1].t
}

func (c *client) must(o nbd.Option, data []byte) {
	c.tb.Helper()
	all := c.option(o, data)
	if last := all[len(all)-1]; last.t != nbd.RepAck {
		c.tb.Fatalf("%v: %v %s", o, last.t, last.data)
	}
}

// open goes to transmission in a dialect with contexts.
func (c *client) open(export string, m nbd.Mode, contexts ...string) {
	c.tb.Helper()
	c.greet(nbd.FixedNewstyle | nbd.NoZeroes)
	switch m {
	case nbd.Structured:
		c.must(nbd.OptStructuredReply, nil)
	case nbd.Extended:
		c.must(nbd.OptExtendedHeaders, nil)
	}
	if contexts != nil {
		c.must(nbd.OptSetMetaContext, nbd.MetaRequest{Export: export, Queries: contexts}.Append(nil))
	}
	c.must(nbd.OptGo, nbd.InfoRequest{Export: export}.Append(nil))
	c.mode = m
}

func (c *client) send(r nbd.Request, payload ...[]byte) {
	c.tb.Helper()
	c.write(append([][]byte{r.Append(nil, c.mode)}, payload...)...)
}

// answer is a whole reply: what it says, and its chunks.
type answer struct {
	cookie uint64
	err    nbd.ChunkFailure // Errno OK: none
	data   []byte           // of a READ, assembled
	holes  int
	chunks int
	status []nbd.BlockStatus
}

// receive reads the reply to the only request that is on its way.
func (c *client) receive(r nbd.Request) answer {
	c.tb.Helper()
	a := answer{data: make([]byte, 0)}
	if r.Type == nbd.CmdRead && r.Length <= nbd.MaxPayload {
		a.data = bytes.Repeat([]byte{0xEE}, int(r.Length))
	}
	if c.mode == nbd.Simple {
		h, err := nbd.ParseSimpleReply(c.read(nbd.SimpleReplySize))
		if err != nil {
			c.tb.Fatal(err)
		}
		a.cookie, a.err.Errno = h.Cookie, h.Errno
		if h.Errno == nbd.OK && r.Type == nbd.CmdRead {
			a.data = c.read(int(r.Length))
		}
		return a
	}
	for {
		h, err := nbd.ParseChunk(c.read(nbd.ChunkHeaderSize(c.mode)), c.mode)
		if err != nil || h.Length > nbd.MaxPayload+8 {
			c.tb.Fatalf("chunk %+v: %v", h, err)
		}
		if c.mode == nbd.Extended && h.Offset != r.Offset {
			c.tb.Fatalf("chunk %+v does not repeat the offset %d", h, r.Offset)
		}
		p := c.read(int(h.Length))
		a.cookie = h.Cookie
		a.chunks++
		switch h.Type {
		case nbd.ChunkNone:
		case nbd.ChunkOffsetData:
			copy(a.data[binary.BigEndian.Uint64(p)-r.Offset:], p[8:])
		case nbd.ChunkOffsetHole:
			x, err := nbd.ParseHole(p)
			if err != nil {
				c.tb.Fatal(err)
			}
			a.holes++
			clear(a.data[x.Offset-r.Offset:][:x.Length])
		case nbd.ChunkBlockStatus, nbd.ChunkBlockStatusExt:
			s, err := nbd.ParseBlockStatus(p, h.Type == nbd.ChunkBlockStatusExt)
			if err != nil || (h.Type == nbd.ChunkBlockStatusExt) != (c.mode == nbd.Extended) {
				c.tb.Fatal(h.Type, err)
			}
			a.status = append(a.status, s)
		default:
			if a.err, err = nbd.ParseChunkFailure(p, h.Type); err != nil {
				c.tb.Fatalf("%v: %v", h.Type, err)
			}
		}
		if h.Flags&nbd.FlagDone != 0 {
			return a
		}
	}
}

// do sends a request and reads its reply.
func (c *client) do(r nbd.Request, payload ...[]byte) answer {
	c.tb.Helper()
	if r.Cookie == 0 {
		r.Cookie = 0x1122334455667788
	}
	if r.Type == nbd.CmdWrite && c.mode == nbd.Extended {
		r.Flags |= nbd.FlagPayloadLen
	}
	c.send(r, payload...)
	a := c.receive(r)
	if a.cookie != r.Cookie {
		c.tb.Fatalf("cookie %x, want %x", a.cookie, r.Cookie)
	}
	return a
}
