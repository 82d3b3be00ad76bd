package dm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"strings"
	"testing"
)

// le skips where the bytes below are the other way round.
func le(t *testing.T) binary.ByteOrder {
	t.Helper()
	if native.Uint16([]byte{1, 0}) != 1 {
		t.Skip("a machine with big-endian integers")
	}
	return binary.LittleEndian
}

func TestTargetHasTheseBytes(t *testing.T) {
	le(t)
	got, err := Target{0, 3, "linear", "7:0 1"}.append(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := "\x00\x00\x00\x00\x00\x00\x00\x00" + "\x03\x00\x00\x00\x00\x00\x00\x00" + // start, length
		"\x00\x00\x00\x00" + "\x30\x00\x00\x00" + // status, next
		"linear\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" + "7:0 1\x00\x00\x00"
	if string(got) != want {
		t.Errorf("%q", got)
	}
}

func TestCallHasTheseBytes(t *testing.T) {
	o := le(t)
	b, err := request{name: "virtlet-dm-a", uuid: "HOLDFAST-1", flags: flagReadOnly, event: eventOfOurs, targets: []Target{{0, 3, "linear", "7:0 1"}}}.append(nil, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) != 1312 {
		t.Errorf("%d bytes", len(b))
	}
	for off, want := range map[int]uint32{0: 4, 4: 0, 8: 0, 12: 1312, 16: 312, 20: 1, 28: 1, 32: 0x4e0000} {
		if got := o.Uint32(b[off:]); got != want {
			t.Errorf("at %d: %#x, want %#x", off, got, want)
		}
	}
	if text(b[48:]) != "virtlet-dm-a" || text(b[176:]) != "HOLDFAST-1" || text(b[312+24:]) != "linear" || text(b[352:]) != "7:0 1" {
		t.Errorf("%q", b)
	}
	if b, err = (request{}).append(nil, 0); err != nil || len(b) != 312 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestWhatDoesNotFitIsRefused(t *testing.T) {
	for _, q := range []request{
		{name: strings.Repeat("n", 128)},
		{uuid: strings.Repeat("u", 129)},
		{name: "a\x00b"},
		{targets: []Target{{Type: "a-type-of-16-byte"}}},
		{targets: []Target{{Type: "linear", Params: "7:0\x001"}}},
	} {
		if _, err := q.append(nil, 0); err == nil {
			t.Errorf("%+v", q)
		}
	}
}

// filled is an answer as the kernel writes it.
func filled(targets int, data []byte) answer {
	b := make([]byte, headerSize, headerSize+len(data))
	native.PutUint32(b[offSize:], uint32(headerSize+len(data)))
	native.PutUint32(b[offStart:], headerSize)
	native.PutUint32(b[offTargets:], uint32(targets))
	return append(b, data...)
}

// status is a table as it is read: "next" counts from the first target.
func status(ts ...Target) answer {
	var data []byte
	for _, t := range ts {
		b, _ := t.append(nil)
		at := len(data)
		data = append(data, b...)
		native.PutUint32(data[at+specNext:], uint32(len(data)))
	}
	return filled(len(ts), data)
}

func TestTableIsReadBack(t *testing.T) {
	want := []Target{{0, 100, "linear", "7:0 1"}, {100, 8, "error", ""}, {108, 1 << 40, "snapshot", "253:0 7:1 N 8"}}
	got, err := status(want...).table()
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := status().table(); err != nil || got != nil {
		t.Errorf("%v, %v", got, err)
	}
}

func TestBrokenTablesAreErrors(t *testing.T) {
	good := func() answer { return status(Target{0, 100, "linear", "7:0 1"}, Target{100, 8, "error", ""}) }
	for _, tc := range []struct {
		name  string
		spoil func(a answer) answer
	}{
		{"no header", func(a answer) answer { return a[:311] }},
		{"data behind the end", func(a answer) answer { native.PutUint32(a[offSize:], 1<<31); return a }},
		{"data before its start", func(a answer) answer { native.PutUint32(a[offStart:], 1<<30); return a }},
		{"too many targets", func(a answer) answer { native.PutUint32(a[offTargets:], 1<<31); return a }},
		{"one target more", func(a answer) answer { native.PutUint32(a[offTargets:], 3); return a }},
		{"next before itself", func(a answer) answer { native.PutUint32(a[headerSize+specNext:], 8); return a }},
		{"next behind the end", func(a answer) answer { native.PutUint32(a[headerSize+specNext:], 1<<20); return a }},
	} {
		if ts, err := tc.spoil(good()).table(); !errors.Is(err, errAnswer) {
			t.Errorf("%s: %v, %v", tc.name, ts, err)
		}
	}
}

// entry is one of the list of devices, followed by what newer kernels add.
func entry(dev uint64, next uint32, name string) []byte {
	b := native.AppendUint32(native.AppendUint64(nil, dev), next)
	b = append(append(b, name...), 0)
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	return native.AppendUint64(b, 0xffffffff)
}

func TestListOfDevices(t *testing.T) {
	first := entry(0xfd00, 0, "a name")
	native.PutUint32(first[8:], uint32(len(first)))
	got, err := filled(0, append(first, entry(0xfd01, 0, "b")...)).names()
	if want := []Named{{"a name", 0xfd00}, {"b", 0xfd01}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := filled(0, make([]byte, 16)).names(); err != nil || got != nil {
		t.Errorf("no device: %v, %v", got, err)
	}
	native.PutUint32(first[8:], 4)
	if got, err := filled(0, first).names(); !errors.Is(err, errAnswer) {
		t.Errorf("an entry in itself: %v, %v", got, err)
	}
}

func FuzzAnswers(f *testing.F) {
	f.Add([]byte(status(Target{0, 100, "linear", "7:0 1"}, Target{100, 8, "error", ""})))
	f.Add([]byte(filled(0, entry(0xfd00, 0, "a name"))))
	f.Add([]byte(filled(1, bytes.Repeat([]byte{0xff}, 100))))
	f.Fuzz(func(t *testing.T, b []byte) {
		a := answer(b)
		names, err := a.names()
		if err != nil && !errors.Is(err, errAnswer) {
			t.Error(err)
		}
		types, _ := a.targetTypes()
		ts, err := a.table()
		if err != nil && !errors.Is(err, errAnswer) {
			t.Error(err)
		}
		if n := len(b)/namesSize + len(b)/versionsSize + len(b)/specSize; len(names)+len(types)+len(ts) > n {
			t.Errorf("%d bytes became more than %d entries", len(b), n)
		}
		if err != nil {
			return
		}
		again, err := status(ts...).table()
		if err != nil || len(again) != len(ts) {
			t.Fatalf("%v, %v", again, err)
		}
		for i := range ts { // parameters may end in the next target where the kernel never puts it
			if again[i] != ts[i] {
				t.Errorf("%v became %v", ts[i], again[i])
			}
		}
	})
}

func TestNamesThatUdevWouldChangeAreRefused(t *testing.T) {
	for _, name := range []string{"virtlet-dm-6cdbd7a5", "a.b:c@d=e_f#g+h", strings.Repeat("n", 127)} {
		if err := CheckName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", ".", "..", "control", "a/b", "a b", "ä", "a\\x20b", "a\x00", strings.Repeat("n", 128)} {
		if err := CheckName(name); err == nil {
			t.Errorf("%q", name)
		}
	}
}
