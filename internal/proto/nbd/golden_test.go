package nbd_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

// x decodes hex with blanks; what stands in double quotes is text.
func x(tb testing.TB, s string) []byte {
	tb.Helper()
	var b []byte
	for i, part := range strings.Split(s, `"`) {
		if i%2 == 1 {
			b = append(b, part...)
			continue
		}
		h, err := hex.DecodeString(strings.ReplaceAll(part, " ", ""))
		if err != nil {
			tb.Fatal(err)
		}
		b = append(b, h...)
	}
	return b
}

// TestWireIsThatOfQEMU holds a conversation with qemu-nbd 7.2 against what
// this package appends, and parses each part back.
func TestWireIsThatOfQEMU(t *testing.T) {
	for _, tc := range []struct {
		name, wire string
		got        []byte
		value      any
		parse      func(b []byte) (any, error)
	}{
		{
			"greeting", `"NBDMAGICIHAVEOPT" 0003`, nbd.AppendGreeting(nil, nbd.FixedNewstyle|nbd.NoZeroes),
			nbd.FixedNewstyle | nbd.NoZeroes, func(b []byte) (any, error) { return nbd.ParseGreeting(b) },
		},
		{
			"client flags", `00000003`, nbd.AppendClientFlags(nil, 3),
			nbd.FixedNewstyle | nbd.NoZeroes, func(b []byte) (any, error) { return nbd.ParseClientFlags(b) },
		},
		{
			"extended headers", `"IHAVEOPT" 0000000b 00000000`, nbd.AppendOption(nil, nbd.OptExtendedHeaders, nil),
			nbd.OptionHeader{Option: nbd.OptExtendedHeaders},
			func(b []byte) (any, error) { return nbd.ParseOptionHeader(b) },
		},
		{
			"refusal", `0003e889045565a9 0000000b 80000001 00000021 "Unsupported option 11 (<unknown>)"`,
			nbd.AppendOptionReply(nil, nbd.OptExtendedHeaders, nbd.RepErrUnsup, []byte("Unsupported option 11 (<unknown>)")),
			nbd.OptionReply{Option: nbd.OptExtendedHeaders, Type: nbd.RepErrUnsup, Length: 0x21},
			func(b []byte) (any, error) { return nbd.ParseOptionReply(b) },
		},
		{
			"export of a list", `00000004 "disk"`, nbd.Server{Name: "disk"}.Append(nil),
			nbd.Server{Name: "disk"},
			func(b []byte) (any, error) { return nbd.ParseServer(b) },
		},
		{
			"set context", `00000004 "disk" 00000001 0000000f "base:allocation"`,
			nbd.MetaRequest{Export: "disk", Queries: []string{nbd.BaseAllocation}}.Append(nil),
			nbd.MetaRequest{Export: "disk", Queries: []string{nbd.BaseAllocation}},
			func(b []byte) (any, error) { return nbd.ParseMetaRequest(b) },
		},
		{
			"context", `00000000 "base:allocation"`, nbd.MetaContext{Name: nbd.BaseAllocation}.Append(nil),
			nbd.MetaContext{Name: nbd.BaseAllocation},
			func(b []byte) (any, error) { return nbd.ParseMetaContext(b) },
		},
		{
			"go", `00000004 "disk" 0001 0003`,
			nbd.InfoRequest{Export: "disk", Infos: []nbd.InfoType{nbd.InfoBlockSize}}.Append(nil),
			nbd.InfoRequest{Export: "disk", Infos: []nbd.InfoType{nbd.InfoBlockSize}},
			func(b []byte) (any, error) { return nbd.ParseInfoRequest(b) },
		},
		{
			"block size", `0003 00000001 00001000 02000000`,
			nbd.Info{Type: nbd.InfoBlockSize, Sizes: nbd.BlockSizes{Minimum: 1, Preferred: 4096, Maximum: 32 << 20}}.Append(nil),
			nbd.Info{Type: nbd.InfoBlockSize, Sizes: nbd.BlockSizes{Minimum: 1, Preferred: 4096, Maximum: 32 << 20}},
			func(b []byte) (any, error) { return nbd.ParseInfo(b) },
		},
		{
			"export", `0000 0000000000100000 048f`,
			nbd.Info{Type: nbd.InfoExport, Size: 1 << 20, Flags: nbd.HasFlags | nbd.ReadOnly | nbd.SendFlush | nbd.SendFUA | nbd.SendDF | nbd.SendCache}.Append(nil),
			nbd.Info{Type: nbd.InfoExport, Size: 1 << 20, Flags: 0x048f},
			func(b []byte) (any, error) { return nbd.ParseInfo(b) },
		},
		{
			"read", `25609513 0000 0000 1122334455667788 0000000000000000 00000008`,
			nbd.Request{Cookie: 0x1122334455667788, Length: 8}.Append(nil, nbd.Structured),
			nbd.Request{Cookie: 0x1122334455667788, Length: 8},
			func(b []byte) (any, error) { return nbd.ParseRequest(b, nbd.Simple) },
		},
		{
			"data chunk", `668e33ef 0001 0001 1122334455667788 00000010`,
			nbd.Chunk{Flags: nbd.FlagDone, Type: nbd.ChunkOffsetData, Cookie: 0x1122334455667788, Length: 16}.Append(nil, nbd.Structured),
			nbd.Chunk{Flags: nbd.FlagDone, Type: nbd.ChunkOffsetData, Cookie: 0x1122334455667788, Length: 16},
			func(b []byte) (any, error) { return nbd.ParseChunk(b, nbd.Structured) },
		},
		{
			"block status", `00000000 00001000 00000000 000ff000 00000003`,
			nbd.BlockStatus{Extents: []nbd.Extent{{Length: 0x1000}, {Length: 0xff000, Flags: 3}}}.Append(nil, false),
			nbd.BlockStatus{Extents: []nbd.Extent{{Length: 0x1000}, {Length: 0xff000, Flags: 3}}},
			func(b []byte) (any, error) { return nbd.ParseBlockStatus(b, false) },
		},
		{
			"error", `00000001 0013 "no writing on disks"`,
			nbd.ChunkFailure{Error: nbd.Error{Errno: nbd.EPERM, Text: "no writing on disks"}}.Append(nil, nbd.ChunkError),
			nbd.ChunkFailure{Error: nbd.Error{Errno: nbd.EPERM, Text: "no writing on disks"}},
			func(b []byte) (any, error) { return nbd.ParseChunkFailure(b, nbd.ChunkError) },
		},
		// From here on not QEMU's, which had no such thing in 7.2.
		{
			"error with offset", `00000005 0003 "bad" 0000000000001000`,
			nbd.ChunkFailure{Error: nbd.Error{Errno: nbd.EIO, Text: "bad"}, Offset: 4096}.Append(nil, nbd.ChunkErrorOffset),
			nbd.ChunkFailure{Error: nbd.Error{Errno: nbd.EIO, Text: "bad"}, Offset: 4096},
			func(b []byte) (any, error) { return nbd.ParseChunkFailure(b, nbd.ChunkErrorOffset) },
		},
		{
			"hole", `0000000000001000 00000200`, nbd.Hole{Offset: 4096, Length: 512}.Append(nil),
			nbd.Hole{Offset: 4096, Length: 512},
			func(b []byte) (any, error) { return nbd.ParseHole(b) },
		},
		{
			"simple reply", `67446698 00000016 0000000000000007`, nbd.SimpleReply{Errno: nbd.EINVAL, Cookie: 7}.Append(nil),
			nbd.SimpleReply{Errno: nbd.EINVAL, Cookie: 7},
			func(b []byte) (any, error) { return nbd.ParseSimpleReply(b) },
		},
		{
			"extended write", `21e41c71 0020 0001 0000000000000007 0000000000001000 0000000000000200`,
			nbd.Request{Flags: nbd.FlagPayloadLen, Type: nbd.CmdWrite, Cookie: 7, Offset: 4096, Length: 512}.Append(nil, nbd.Extended),
			nbd.Request{Flags: nbd.FlagPayloadLen, Type: nbd.CmdWrite, Cookie: 7, Offset: 4096, Length: 512},
			func(b []byte) (any, error) { return nbd.ParseRequest(b, nbd.Extended) },
		},
		{
			"extended chunk", `6e8a278c 0001 0006 0000000000000007 0000000000001000 0000000000000018`,
			nbd.Chunk{Flags: nbd.FlagDone, Type: nbd.ChunkBlockStatusExt, Cookie: 7, Offset: 4096, Length: 24}.Append(nil, nbd.Extended),
			nbd.Chunk{Flags: nbd.FlagDone, Type: nbd.ChunkBlockStatusExt, Cookie: 7, Offset: 4096, Length: 24},
			func(b []byte) (any, error) { return nbd.ParseChunk(b, nbd.Extended) },
		},
		{
			"wide block status", `00000002 00000001 0000010000000000 0000000000000003`,
			nbd.BlockStatus{Context: 2, Extents: []nbd.Extent{{Length: 1 << 40, Flags: 3}}}.Append(nil, true),
			nbd.BlockStatus{Context: 2, Extents: []nbd.Extent{{Length: 1 << 40, Flags: 3}}},
			func(b []byte) (any, error) { return nbd.ParseBlockStatus(b, true) },
		},
		{
			"status filter", `0000010000000000 00000002`, nbd.StatusFilter{Length: 1 << 40, Contexts: []uint32{2}}.Append(nil),
			nbd.StatusFilter{Length: 1 << 40, Contexts: []uint32{2}},
			func(b []byte) (any, error) { return nbd.ParseStatusFilter(b) },
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			want := x(t, tc.wire)
			if !bytes.Equal(tc.got, want) {
				t.Errorf("appended\n%x, want\n%x", tc.got, want)
			}
			v, err := tc.parse(want)
			if err != nil || !reflect.DeepEqual(v, tc.value) {
				t.Errorf("parsed %+v, %v; want %+v", v, err, tc.value)
			}
		})
	}
}

func TestParsersRefuse(t *testing.T) {
	status := func(wide bool) func(b []byte) error {
		return func(b []byte) error { _, err := nbd.ParseBlockStatus(b, wide); return err }
	}
	failure := func(c nbd.ChunkType) func(b []byte) error {
		return func(b []byte) error { _, err := nbd.ParseChunkFailure(b, c); return err }
	}
	meta := func(b []byte) error { _, err := nbd.ParseMetaRequest(b); return err }
	info := func(b []byte) error { _, err := nbd.ParseInfo(b); return err }
	server := func(b []byte) error { _, err := nbd.ParseServer(b); return err }
	ask := func(b []byte) error { _, err := nbd.ParseInfoRequest(b); return err }
	for _, tc := range []struct {
		name, wire string
		parse      func(b []byte) error
	}{
		{"a status without extents", `00000000`, status(false)},
		{"an empty extent", `00000000 00000000 00000003`, status(false)},
		{"half an extent", `00000000 00000001`, status(false)},
		{"a wide status with a wrong count", `00000000 00000002 0000000000000001 0000000000000003`, status(true)},
		{"a text longer than its chunk", `00000005 0004 "bad"`, failure(nbd.ChunkError)},
		{"bytes behind an error", `00000005 0003 "bad" 00`, failure(nbd.ChunkError)},
		{"an error without its offset", `00000005 0003 "bad"`, failure(nbd.ChunkErrorOffset)},
		{"four billion queries", `00000000 ffffffff`, meta},
		{"a query longer than the option", `00000000 00000001 00000005 "base"`, meta},
		{"bytes behind the queries", `00000000 00000000 00`, meta},
		{"an export of twelve bytes less one", `0000 0000000000100000 04`, info},
		{"a block size with more", `0003 00000001 00001000 02000000 00`, info},
		{"a name with a NUL", `00000002 "a" 00`, server},
		{"a name that is no UTF-8", `00000001 ff`, server},
		{"a list of infos that is short", `00000000 0002 0003`, ask},
		{"a name of four gigabytes", `ffffffff`, ask},
	} {
		if err := tc.parse(x(t, tc.wire)); !errors.Is(err, nbd.ErrFormat) {
			t.Errorf("%s: %v, want ErrFormat", tc.name, err)
		}
	}
	if _, err := nbd.ParseString(make([]byte, nbd.MaxString+1)); !errors.Is(err, nbd.ErrFormat) {
		t.Errorf("a long string: %v", err)
	}
	if _, err := nbd.ParseGreeting(x(t, `"NBDMAGIC" 0000420281861253 0000`)); !errors.Is(err, nbd.ErrFormat) {
		t.Errorf("oldstyle: %v", err)
	}
}

func TestFlagsHaveNames(t *testing.T) {
	const want = "HAS_FLAGS|READ_ONLY|SEND_FLUSH|SEND_FUA|SEND_DF|SEND_CACHE|0x8000"
	if got := nbd.ExportFlags(0x848f).String(); got != want {
		t.Errorf("flags are %s, want %s", got, want)
	}
	if got := nbd.RepErrTLSReqd.String() + nbd.OptGo.String() + nbd.CmdBlockStatus.String() + nbd.ChunkErrorOffset.String() + nbd.Command(99).String(); got != "ERR_TLS_REQDGOBLOCK_STATUSERROR_OFFSET0x63" {
		t.Errorf("names are %s", got)
	}
}
