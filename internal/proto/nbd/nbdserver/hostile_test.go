package nbdserver_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd/nbdserver"
)

func TestHostileClientsAreDropped(t *testing.T) {
	open := func(m nbd.Mode) func(c *client) { return func(c *client) { c.open("", m) } }
	for _, tc := range []struct {
		name string
		open func(c *client)
		say  []byte
	}{
		{"unknown client flags", nil, nbd.AppendClientFlags(nil, 4)},
		{"wrong option magic", func(c *client) { c.greet(3) }, bytes.Repeat([]byte{1}, 16)},
		{"an option of four gigabytes", func(c *client) { c.greet(3) }, nbd.OptionHeader{Option: nbd.OptInfo, Length: 1<<32 - 1}.Append(nil)},
		{"a name of 20 kilobytes", func(c *client) { c.greet(3) }, nbd.OptionHeader{Option: nbd.OptExportName, Length: 20_000}.Append(nil)},
		{"an unknown name", func(c *client) { c.greet(3) }, nbd.AppendOption(nil, nbd.OptExportName, []byte("no"))},
		{"a name that is none", func(c *client) { c.greet(3) }, nbd.AppendOption(nil, nbd.OptExportName, []byte{0})},
		{"EXPORT_NAME after EXTENDED_HEADERS", func(c *client) { c.greet(3); c.must(nbd.OptExtendedHeaders, nil) }, nbd.AppendOption(nil, nbd.OptExportName, nil)},
		{"wrong request magic", open(nbd.Simple), make([]byte, nbd.RequestSize)},
		{"a short request in extended mode", open(nbd.Extended), nbd.Request{Length: 1}.Append(make([]byte, 0, 99), nbd.Simple)[: nbd.RequestSize+4 : 99]},
		{"a write of four gigabytes", open(nbd.Simple), nbd.Request{Type: nbd.CmdWrite, Length: 1<<32 - 1}.Append(nil, nbd.Simple)},
		{"a payload of all there is", open(nbd.Extended), nbd.Request{Flags: nbd.FlagPayloadLen, Length: 1<<64 - 1}.Append(nil, nbd.Extended)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := serveOne(t, &nbdserver.Export{Image: newDisk(1000)})
			if tc.open == nil {
				c.read(nbd.GreetingSize)
			} else {
				tc.open(c)
			}
			c.write(tc.say)
			c.gone()
		})
	}
}

func TestTenThousandOptionsAreTooMany(t *testing.T) {
	c := serveOne(t, &nbdserver.Export{Image: newDisk(1000)})
	c.greet(3)
	go func() {
		for range 10_000 {
			if _, err := c.nc.Write(nbd.AppendOption(nil, nbd.OptList, nil)); err != nil {
				return
			}
		}
	}()
	n, err := io.Copy(io.Discard, c.nc)
	if max := int64(1024 * (2*nbd.OptionReplySize + 4)); n > max {
		t.Errorf("%d bytes of replies, %v", n, err)
	}
}

func TestClientsThatVanishLeaveNothing(t *testing.T) {
	d := newDisk(1 << 20)
	s, path := start(t, nbdserver.Options{Exports: one(d)})
	for _, say := range [][]byte{
		nil,
		nbd.Request{}.Append(nil, nbd.Simple)[:5],
		nbd.Request{Length: 1 << 20}.Append(nil, nbd.Simple),
		nbd.Request{Type: nbd.CmdWrite, Length: 1 << 20}.Append(nil, nbd.Simple),
		bytes.Repeat(nbd.Request{Length: 1 << 20}.Append(nil, nbd.Simple), 100),
	} {
		c := connect(t, path)
		c.open("", nbd.Simple)
		c.write(say)
		_ = c.nc.Close()
	}
	for deadline := time.Now().Add(10 * time.Second); s.Stats().Connections > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are left", s.Stats().Connections)
		}
	}
}

// script is a connection of which the whole input is known.
type script struct {
	in   io.Reader
	sent int
}

func (s *script) Read(p []byte) (int, error) { return s.in.Read(p) }

func (s *script) Write(p []byte) (int, error) {
	if s.sent += len(p); s.sent > 1<<30 {
		return 0, errors.New("enough")
	}
	return len(p), nil
}
func (*script) Close() error                     { return nil }
func (*script) LocalAddr() net.Addr              { return nil }
func (*script) RemoteAddr() net.Addr             { return nil }
func (*script) SetDeadline(time.Time) error      { return nil }
func (*script) SetReadDeadline(time.Time) error  { return nil }
func (*script) SetWriteDeadline(time.Time) error { return nil }

// FuzzServer gives the server arbitrary input. It must end, without a panic,
// without buffers left, and with little memory taken.
func FuzzServer(f *testing.F) {
	opt := nbd.AppendOption
	greet := nbd.AppendClientFlags(nil, 3)
	goTo := nbd.InfoRequest{}.Append(nil)
	set := nbd.MetaRequest{Queries: []string{nbd.BaseAllocation, "x:s"}}.Append(nil)
	f.Add(opt(opt(greet, nbd.OptList, nil), nbd.OptAbort, nil))
	f.Add(nbd.Request{Length: 100}.Append(opt(greet, nbd.OptExportName, nil), nbd.Simple))
	for _, m := range []nbd.Mode{nbd.Structured, nbd.Extended} {
		b := opt(bytes.Clone(greet), nbd.OptStructuredReply, nil)
		if m == nbd.Extended {
			b = opt(b, nbd.OptExtendedHeaders, nil)
		}
		b = opt(opt(opt(b, nbd.OptListMetaContext, set), nbd.OptSetMetaContext, set), nbd.OptGo, goTo)
		for cmd := range nbd.Command(9) {
			r := nbd.Request{Type: cmd, Offset: uint64(cmd) * 100, Length: 8}
			if cmd == nbd.CmdDisc {
				continue
			}
			if cmd == nbd.CmdWrite && m == nbd.Extended {
				r.Flags = nbd.FlagPayloadLen
			}
			b = append(r.Append(b, m), make([]byte, r.Payload(m))...)
		}
		f.Add(b)
		p := nbd.StatusFilter{Length: 100, Contexts: []uint32{1}}.Append(nil)
		f.Add(append(nbd.Request{Type: nbd.CmdBlockStatus, Flags: nbd.FlagPayloadLen, Length: uint64(len(p))}.Append(b, m), p...))
	}
	d := newDisk(1 << 20)
	f.Fuzz(func(t *testing.T, in []byte) {
		before := pagebuf.Outstanding()
		var m0, m1 runtime.MemStats
		runtime.ReadMemStats(&m0)
		d.inMemory = len(in)%2 == 0
		s := nbdserver.New(nbdserver.Options{Exports: []*nbdserver.Export{{Image: d, Align: 4096, Contexts: []nbdserver.Context{stripes("x:s")}}}})
		_ = s.ServeConn(context.Background(), &script{in: bytes.NewReader(in)})
		runtime.ReadMemStats(&m1)
		if n := m1.TotalAlloc - m0.TotalAlloc; n > 64<<20 {
			t.Errorf("%d bytes of input took %d MiB", len(in), n>>20)
		}
		if n := pagebuf.Outstanding() - before; n != 0 {
			t.Errorf("%d buffers are left", n)
		}
	})
}
