package drivecrypt

import (
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/target"
	"github.com/holdfast-backup/holdfast/internal/tape"
)

// What mhvtl 1.8 answers for an LTO-8 drive.
const (
	capabilities = "001000280100000000000000000000000000000001000014ba100020000c0020090000000000000000010014"
	stateWithKey = "002000202102030100000003000000000000000000000000"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func testKey(t testing.TB) tape.DataKey {
	return tape.NewDataKey([32]byte(unhex(t, "cbcebebbdf94e64f41dd864687afe8ea19742b1db528263cd3a32e2f26eeffce")))
}

func TestPagesOfARealDriveAreUnderstood(t *testing.T) {
	all, err := ParseCapabilities(append(unhex(t, capabilities), make([]byte, 100)...))
	if err != nil {
		t.Fatal(err)
	}
	want := []Algorithm{{Index: 1, Code: AES256GCM, KeySize: 32, Encrypt: 2, Decrypt: 2}}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Error(diff)
	}
	s, err := ParseState(unhex(t, stateWithKey)) // shorter than it says
	if err != nil || !s.On() || s.Off() || s.Index != 1 || s.Instances != 3 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestParametersAreThoseOfPBS(t *testing.T) {
	k := testKey(t)
	for _, tc := range []struct {
		key  *tape.DataKey
		want string
	}{
		{&k, "0010003040000203010000000000000000000020" + "cbcebebbdf94e64f41dd864687afe8ea19742b1db528263cd3a32e2f26eeffce"},
		{nil, "0010001040000000010000000000000000000000"},
	} {
		if got := hex.EncodeToString(appendSet(nil, 1, tc.key)); got != tc.want {
			t.Errorf("got  %s\nwant %s", got, tc.want)
		}
	}
}

// drive is a unit that keeps what it is told, or does not.
type drive struct {
	algorithm, state []byte
	sent             []byte
	deaf             bool
	refuse           error
}

func (d *drive) Execute(cdb, out, in []byte) (int, error) {
	if d.refuse != nil {
		return 0, d.refuse
	}
	switch {
	case scsi.OpcodeOf(cdb) == scsi.SecurityProtocolOut:
		d.sent = slices.Clone(out)
		if !d.deaf {
			d.state[5], d.state[6] = out[6], out[7]
		}
		return len(out), nil
	case cdb[3] == 0x10:
		return copy(in, d.algorithm), nil
	}
	return copy(in, d.state), nil
}

func newDrive(t testing.TB) *drive {
	return &drive{algorithm: unhex(t, capabilities), state: append([]byte{0, 0x20, 0, 0x20}, make([]byte, 32)...)}
}

func TestKeyIsSetAndCleared(t *testing.T) {
	d := newDrive(t)
	tr := target.Connect(d)
	if err := Set(tr, testKey(t)); err != nil || d.state[5] != 2 || d.state[6] != 3 || len(d.sent) != 52 {
		t.Errorf("set: %v, the drive got %x", err, d.sent)
	}
	if err := Clear(tr); err != nil || d.state[5] != 0 || len(d.sent) != 20 {
		t.Errorf("clear: %v, the drive got %x", err, d.sent)
	}
}

func TestDriveThatDoesNotWhatItIsToldIsAnError(t *testing.T) {
	d := newDrive(t)
	d.deaf = true
	if err := Set(target.Connect(d), testKey(t)); err == nil || errors.Is(err, tape.ErrUnsupported) {
		t.Errorf("set: %v", err)
	}
	d.state[5], d.state[6] = 2, 3
	if err := Clear(target.Connect(d)); err == nil {
		t.Error("the key stayed, and nobody hears of it")
	}
}

func TestDriveWithoutEncryptionIsUnsupported(t *testing.T) {
	none := newDrive(t)
	none.algorithm[20+4] = 0
	for name, d := range map[string]*drive{
		"no command":      {refuse: &scsi.Sense{Key: scsi.IllegalRequest, ASC: 0x20}},
		"by the library":  {refuse: &scsi.Sense{Key: scsi.DataProtect, ASC: 0x74, ASCQ: 0x0b}},
		"other algorithm": none,
	} {
		if err := Set(target.Connect(d), testKey(t)); !errors.Is(err, tape.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	broken := &drive{refuse: &scsi.Sense{Key: scsi.HardwareError, ASC: 0x44}}
	if err := Set(target.Connect(broken), testKey(t)); err == nil || errors.Is(err, tape.ErrUnsupported) {
		t.Errorf("a broken drive: %v", err)
	}
}

type noKeys struct{}

var errNoKey = errors.New("no such key")

func (noKeys) DataKey(tape.KeyOf) (tape.DataKey, error) { return tape.DataKey{}, errNoKey }

func TestUnknownKeyReachesNoDrive(t *testing.T) {
	d := newDrive(t)
	if err := (Local{noKeys{}}).SetKey(context.Background(), target.Connect(d), tape.KeyOf{}); !errors.Is(err, errNoKey) || d.sent != nil {
		t.Errorf("%v, the drive got %x", err, d.sent)
	}
}

func FuzzPages(f *testing.F) {
	f.Add(unhex(f, capabilities))
	f.Add(unhex(f, stateWithKey))
	f.Add(append([]byte{0, 0x21, 0, 12}, make([]byte, 12)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if all, err := ParseCapabilities(b); err == nil && len(all) > len(b)/24 {
			t.Errorf("%d algorithms in %d bytes", len(all), len(b))
		}
		if s, err := ParseState(b); err == nil && s.On() && s.Off() {
			t.Error("on and off")
		}
		_, _ = ParseNext(b)
	})
}
