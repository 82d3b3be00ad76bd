package nbdattach

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
	"time"
)

// unhex reads hex with spaces and line ends.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func littleEndian(t testing.TB) {
	t.Helper()
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the vectors are little-endian")
	}
}

// The vectors are made by hand from include/uapi/linux/nbd-netlink.h and
// netlink's rules: u16 length, u16 type (bit 15: nested), padding to 4 bytes.
func TestConnectHasTheBytesOfTheKernelsHeader(t *testing.T) {
	littleEndian(t)
	got, err := encodeConnect(Options{
		Index: 3, Size: 1 << 20, BlockSize: 512, Timeout: 1500 * time.Millisecond, DeadTimeout: 10 * time.Second,
		Flags: HasFlags | ReadOnly, ClientFlags: DisconnectOnClose, Identifier: "x", Sockets: []int{7, 8},
	})
	want := unhex(t, `
		0800 0100 03000000
		0c00 0200 0000100000000000
		0c00 0300 0002000000000000
		0c00 0400 0200000000000000
		0c00 0800 0a00000000000000
		0c00 0600 0200000000000000
		1c00 0780
			0c00 0180  0800 0100 07000000
			0c00 0180  0800 0100 08000000
		0c00 0500 0300000000000000
		0600 0a00 7800 0000`)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v\n got %x\nwant %x", err, got, want)
	}
}

func TestConnectToAnyDeviceNamesNone(t *testing.T) {
	littleEndian(t)
	got, err := encodeConnect(Options{Index: AnyIndex, Size: 512, Flags: HasFlags, Sockets: []int{7}})
	want := unhex(t, `
		0c00 0200 0002000000000000
		1000 0780  0c00 0180  0800 0100 07000000
		0c00 0500 0100000000000000`)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v\n got %x\nwant %x", err, got, want)
	}
}

func TestReconfigureNamesOnlyWhatChanges(t *testing.T) {
	littleEndian(t)
	got, err := encodeReconfigure(Options{Index: 1, ClientFlags: DisconnectOnClose})
	want := unhex(t, `0800 0100 01000000  0c00 0600 0200000000000000`)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v\n got %x\nwant %x", err, got, want)
	}
}

func TestAnswersAreRead(t *testing.T) {
	littleEndian(t)
	if n, err := decodeIndex(unhex(t, `0800 0100 0c000000`)); err != nil || n != 12 {
		t.Errorf("%d, %v", n, err)
	}
	for _, bad := range []string{"", "0800 0200 0c000000", "0800 0100 0c00", "ffff 0100 00000000"} {
		if n, err := decodeIndex(unhex(t, bad)); err == nil {
			t.Errorf("%q: %d", bad, n)
		}
	}
	got, err := decodeStatus(unhex(t, `
		2c00 0980
			1400 0180  0800 0100 00000000  0500 0200 01000000
			1400 0180  0800 0100 05000000  0500 0200 00000000`))
	if err != nil || len(got) != 2 || !got[0] || got[5] {
		t.Errorf("%v, %v", got, err)
	}
}

func FuzzAnswers(f *testing.F) {
	f.Add([]byte{8, 0, 1, 0, 12, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := decodeIndex(b); err == nil && n < 0 {
			t.Errorf("index %d", n)
		}
		if m, err := decodeStatus(b); err == nil && len(m) > len(b) {
			t.Errorf("%d devices out of %d bytes", len(m), len(b))
		}
	})
}

func TestParseIndex(t *testing.T) {
	for in, want := range map[string]int{"/dev/nbd0": 0, "/dev/nbd12p3": 12, "nbd300": 300} {
		if n, err := ParseIndex(in); err != nil || n != want {
			t.Errorf("%s: %d, %v", in, n, err)
		}
	}
	for _, bad := range []string{"", "/dev/loop0", "/dev/nbd", "/dev/nbdp1", "/dev/nbd-1"} {
		if n, err := ParseIndex(bad); err == nil {
			t.Errorf("%q: %d", bad, n)
		}
	}
}
