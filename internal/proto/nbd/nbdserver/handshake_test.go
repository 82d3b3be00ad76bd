package nbdserver_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd/nbdserver"
)

// bytesOf decodes hex with blanks; what stands in double quotes is text.
func bytesOf(tb testing.TB, s string) []byte {
	tb.Helper()
	var b []byte
	for i, part := range strings.Split(s, `"`) {
		if i%2 == 1 {
			b = append(b, part...)
			continue
		}
		h, err := hex.DecodeString(strings.Join(strings.Fields(part), ""))
		if err != nil {
			tb.Fatal(err)
		}
		b = append(b, h...)
	}
	return b
}

// TestConversationIsThatOfQEMU says what a client said to qemu-nbd 7.2. The
// answers are QEMU's but for the flags, the order of a GO's replies (free), and
// the option that QEMU did not know.
func TestConversationIsThatOfQEMU(t *testing.T) {
	d := &disk{b: make([]byte, 1<<20)}
	copy(d.b, "HELLO")
	c := serveOne(t, &nbdserver.Export{Name: "disk", Image: d, ReadOnly: true})
	for _, step := range []struct{ say, hear string }{
		{``, `"NBDMAGICIHAVEOPT" 0003`},
		{`00000003 "IHAVEOPT" 0000000c 00000002 "xx"`, `0003e889045565a9 0000000c 80000001 00000020 "option 0xc is not supported"`},
		{`"IHAVEOPT" 00000003 00000000`, `0003e889045565a9 00000003 00000002 00000008 00000004 "disk"
			0003e889045565a9 00000003 00000001 00000000`},
		{`"IHAVEOPT" 00000008 00000000`, `0003e889045565a9 00000008 00000001 00000000`},
		{
			`"IHAVEOPT" 0000000a 0000001f 00000004 "disk" 00000001 0000000f "base:allocation"`,
			`0003e889045565a9 0000000a 00000004 00000013 00000000 "base:allocation"
			0003e889045565a9 0000000a 00000001 00000000`,
		},
		{
			`"IHAVEOPT" 00000007 0000000c 00000004 "disk" 0001 0003`,
			`0003e889045565a9 00000007 00000003 0000000e 0003 00000001 00001000 02000000
			0003e889045565a9 00000007 00000003 0000000c 0000 0000000000100000 0583
			0003e889045565a9 00000007 00000001 00000000`,
		},
		{
			`25609513 0000 0000 1122334455667788 0000000000000000 00000008`,
			`668e33ef 0001 0001 1122334455667788 00000010 0000000000000000 48454c4c4f000000`,
		},
		{
			`25609513 0000 0007 0000000000000002 0000000000000000 00100000`,
			`668e33ef 0001 0005 0000000000000002 00000014 00000000 00010000 00000000 000f0000 00000003`,
		},
		{
			`25609513 0000 0001 0000000000000003 0000000000000000 00000002 "xx"`,
			`668e33ef 0001 8001 0000000000000003 0000001d 00000001 0017 "the export is read-only"`,
		},
		{`25609513 0000 0002 0000000000000004 0000000000000000 00000000`, ``},
	} {
		hear := bytesOf(t, step.hear)
		if bytes.Contains(hear, []byte("option 0xc")) {
			hear[19] = byte(len("option 0xc is not supported"))
		}
		c.write(bytesOf(t, step.say))
		if got := c.read(len(hear)); !bytes.Equal(got, hear) {
			t.Fatalf("to %s the server says\n%x, want\n%x", step.say, got, hear)
		}
	}
	c.gone()
}

func TestOptionsAreRefused(t *testing.T) {
	name := func(s string) []byte { return nbd.InfoRequest{Export: s}.Append(nil) }
	meta := func(s string, q ...string) []byte { return nbd.MetaRequest{Export: s, Queries: q}.Append(nil) }
	for _, tc := range []struct {
		name   string
		before []nbd.Option // without data
		option nbd.Option
		data   []byte
		want   nbd.ReplyType
	}{
		{"unknown option", nil, 4711, []byte("data"), nbd.RepErrUnsup},
		{"withdrawn option", nil, nbd.OptPeekExport, nil, nbd.RepErrUnsup},
		{"long option", nil, 4711, make([]byte, 100_000), nbd.RepErrTooBig},
		{"list with data", nil, nbd.OptList, []byte{1}, nbd.RepErrInvalid},
		{"no TLS here", nil, nbd.OptStartTLS, nil, nbd.RepErrPolicy},
		{"TLS with data", nil, nbd.OptStartTLS, []byte{1}, nbd.RepErrInvalid},
		{"info of nothing", nil, nbd.OptInfo, nil, nbd.RepErrInvalid},
		{"info of an unknown export", nil, nbd.OptInfo, name("c"), nbd.RepErrUnknown},
		{"go to an unknown export", nil, nbd.OptGo, name("c"), nbd.RepErrUnknown},
		{"no default among two", nil, nbd.OptGo, name(""), nbd.RepErrUnknown},
		{"go with a wrong count", nil, nbd.OptGo, append(name("a"), 0), nbd.RepErrInvalid},
		{"go with a long name", nil, nbd.OptGo, name(strings.Repeat("x", 5000)), nbd.RepErrInvalid},
		{"structured with data", nil, nbd.OptStructuredReply, []byte{1}, nbd.RepErrInvalid},
		{"structured twice", []nbd.Option{nbd.OptStructuredReply}, nbd.OptStructuredReply, nil, nbd.RepErrInvalid},
		{"extended twice", []nbd.Option{nbd.OptExtendedHeaders}, nbd.OptExtendedHeaders, nil, nbd.RepErrInvalid},
		{"structured after extended", []nbd.Option{nbd.OptExtendedHeaders}, nbd.OptStructuredReply, nil, nbd.RepErrExtHeaderReqd},
		{"extended after structured", []nbd.Option{nbd.OptStructuredReply}, nbd.OptExtendedHeaders, nil, nbd.RepAck},
		{"contexts without structured replies", nil, nbd.OptSetMetaContext, meta("a", nbd.BaseAllocation), nbd.RepErrInvalid},
		{"contexts of an unknown export", []nbd.Option{nbd.OptStructuredReply}, nbd.OptSetMetaContext, meta("c"), nbd.RepErrUnknown},
		{"contexts cut short", []nbd.Option{nbd.OptStructuredReply}, nbd.OptSetMetaContext, meta("a", "x")[:10], nbd.RepErrInvalid},
		{"unknown namespace", []nbd.Option{nbd.OptStructuredReply}, nbd.OptSetMetaContext, meta("a", "x:y"), nbd.RepAck},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, path := start(t, nbdserver.Options{Exports: []*nbdserver.Export{
				{Name: "a", Image: newDisk(1 << 20)}, {Name: "b", Image: newDisk(1 << 20)},
			}})
			c := connect(t, path)
			c.greet(nbd.FixedNewstyle)
			for _, o := range tc.before {
				c.must(o, nil)
			}
			if got := c.final(tc.option, tc.data); got != tc.want {
				t.Errorf("%v, want %v", got, tc.want)
			}
			c.must(nbd.OptGo, name("b")) // the conversation goes on
			if tc.before != nil {
				return
			}
			if a := c.do(nbd.Request{Type: nbd.CmdRead, Length: 10}); a.err.Errno != nbd.OK {
				t.Errorf("read: %v", a.err.Errno)
			}
		})
	}
}

func TestExportsAreFound(t *testing.T) {
	_, path := start(t, nbdserver.Options{Default: "b", Exports: []*nbdserver.Export{
		{Name: "a", Image: fixed{newDisk(1000)}}, {Name: "b", Description: "the second", Image: newDisk(2000)},
	}})
	c := connect(t, path)
	c.greet(nbd.FixedNewstyle)
	var list []string
	for _, r := range c.option(nbd.OptList, nil) {
		if r.t == nbd.RepServer {
			s, err := nbd.ParseServer(r.data)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, s.Name+":"+s.Description)
		}
	}
	if got := strings.Join(list, " "); got != "a: b:the second" {
		t.Errorf("list: %s", got)
	}
	infos := map[nbd.InfoType]nbd.Info{}
	for _, r := range c.option(nbd.OptInfo, nbd.InfoRequest{Infos: []nbd.InfoType{nbd.InfoDescription}}.Append(nil)) {
		if r.t == nbd.RepInfo {
			i, err := nbd.ParseInfo(r.data)
			if err != nil {
				t.Fatal(err)
			}
			infos[i.Type] = i
		}
	}
	if infos[nbd.InfoName].Text != "b" || infos[nbd.InfoDescription].Text != "the second" || infos[nbd.InfoExport].Size != 2000 {
		t.Errorf("the default export is %+v", infos)
	}
	const rw = nbd.HasFlags | nbd.SendFlush | nbd.SendFUA | nbd.SendTrim | nbd.SendWriteZeroes | nbd.SendFastZero | nbd.CanMultiConn | nbd.SendCache
	if got := infos[nbd.InfoExport].Flags; got != rw {
		t.Errorf("flags of a device: %v, want %v", got, rw)
	}

	c.write(nbd.AppendOption(nil, nbd.OptExportName, []byte("a"))) // with the zeros, for the client did not refuse them
	b := c.read(nbd.ExportNameReplySize + nbd.ExportNamePadding)
	size, flags, err := nbd.ParseExportNameReply(b)
	if err != nil || size != 1000 || flags != nbd.HasFlags|nbd.ReadOnly|nbd.CanMultiConn|nbd.SendCache || !bytes.Equal(b[10:], make([]byte, 124)) {
		t.Errorf("EXPORT_NAME: %d, %v, %v", size, flags, err)
	}
	if a := c.do(nbd.Request{Type: nbd.CmdRead, Length: 1000}); a.err.Errno != nbd.OK {
		t.Errorf("read: %v", a.err.Errno)
	}
	c.send(nbd.Request{Type: nbd.CmdDisc})
	c.gone()
}

func TestMetadataContextsAreListed(t *testing.T) {
	e := &nbdserver.Export{Image: newDisk(1000), Contexts: []nbdserver.Context{stripes("x-holdfast:a"), stripes("x-holdfast:b")}}
	c := serveOne(t, e)
	c.greet(nbd.FixedNewstyle)
	for _, tc := range []struct{ queries, want string }{
		{"", "base:allocation x-holdfast:a x-holdfast:b"},
		{"base:", "base:allocation"},
		{"x-holdfast:", "x-holdfast:a x-holdfast:b"},
		{"x-holdfast:b y:", "x-holdfast:b"},
		{"x-holdfast", ""},
	} {
		var got []string
		for _, r := range c.option(nbd.OptListMetaContext, nbd.MetaRequest{Queries: strings.Fields(tc.queries)}.Append(nil)) {
			if r.t == nbd.RepMetaContext {
				got = append(got, string(r.data[4:]))
			}
		}
		if s := strings.Join(got, " "); s != tc.want {
			t.Errorf("%q lists %q, want %q", tc.queries, s, tc.want)
		}
	}
	c.must(nbd.OptStructuredReply, nil)
	all := c.option(nbd.OptSetMetaContext, nbd.MetaRequest{Queries: []string{"base:", "x-holdfast:"}}.Append(nil))
	if len(all) != 1 {
		t.Errorf("SET with wildcards selects %d contexts, want none", len(all)-1)
	}
	if got := c.final(nbd.OptAbort, []byte("bye")); got != nbd.RepAck {
		t.Errorf("ABORT: %v", got)
	}
	c.gone()
}

// stripes is a context that changes every 100 bytes.
type stripes string

func (s stripes) Name() string { return string(s) }

func (stripes) At(off int64) (int64, uint32, error) { return 100 - off%100, uint32(off / 100 % 2), nil }

func TestUnusableOptionsAreTheFirstError(t *testing.T) {
	img := newDisk(1)
	for _, opts := range []nbdserver.Options{
		{Exports: []*nbdserver.Export{{Name: "a", Image: img}, {Name: "a", Image: img}}},
		{Exports: []*nbdserver.Export{{Name: "a"}}},
		{Exports: []*nbdserver.Export{{Name: "a\x00", Image: img}}},
		{Exports: []*nbdserver.Export{{Image: img, Align: 3}}},
		{Exports: []*nbdserver.Export{{Image: img, Preferred: 1000}}},
		{Exports: []*nbdserver.Export{{Image: img, Contexts: []nbdserver.Context{stripes("x:a"), stripes("x:a")}}}},
		{Default: "b", Exports: []*nbdserver.Export{{Name: "a", Image: img}}},
		{RequireTLS: true},
	} {
		if err := nbdserver.New(opts).ServeConn(t.Context(), closedConn(t)); err == nil {
			t.Errorf("%+v is served", opts)
		}
	}
}
