package drive_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/drive"
)

// setKey sends the page that sets data encryption; key nil switches it off.
func (b *bench) setKey(encrypt, decrypt, flags byte, key []byte) error {
	page := []byte{0, 0x10, 0, byte(16 + len(key)), 0x40, flags, encrypt, decrypt, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(len(key))}
	page = append(page, key...)
	cdb := binary.BigEndian.AppendUint32([]byte{0xb5, 0x20, 0, 0x10, 0, 0}, uint32(len(page)))
	_, err := b.d.Execute(append(cdb, 0, 0), page, nil)
	return err
}

func (b *bench) securityIn(page byte) []byte {
	b.t.Helper()
	return b.ok(8192, 0xa2, 0x20, 0, page, 0, 0, 0, 0, 0x20, 0, 0, 0)
}

func keyBytes(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

func TestABlockIsReadWithItsKeyAlone(t *testing.T) {
	b := newBench(t, nil)
	set := func(encrypt, decrypt byte, key []byte) {
		t.Helper()
		if err := b.setKey(encrypt, decrypt, 0, key); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.write([]byte("plain")); err != nil {
		t.Fatal(err)
	}
	set(2, 3, keyBytes(1))
	if err := b.write([]byte("secret")); err != nil {
		t.Fatal(err)
	}
	b.must(0x10, 0, 0, 0, 1, 0)

	reads := func(want string) {
		t.Helper()
		if got, err := b.read(100); err != nil || string(got) != want {
			t.Fatalf("it reads %q: %v", got, err)
		}
	}
	fails := func(code uint16) {
		t.Helper()
		_, err := b.read(100)
		b.says(err, scsi.DataProtect, code)
	}
	next := func(want byte) {
		t.Helper()
		if got := b.securityIn(0x21); got[12]&0x0f != want {
			t.Fatalf("the next block is %x, want %x", got[12]&0x0f, want)
		}
	}
	b.must(0x01, 0, 0, 0, 0, 0)
	next(3)
	reads("plain") // mixed mode reads both
	next(5)
	reads("secret")
	next(2)
	set(0, 0, nil)
	b.must(0x01, 0, 0, 0, 0, 0)
	reads("plain")
	next(6)
	fails(0x7401)
	set(2, 3, keyBytes(2))
	next(6)
	fails(0x7403)
	set(0, 2, keyBytes(1))
	reads("secret")
	b.must(0x01, 0, 0, 0, 0, 0)
	fails(0x7402)
}

func TestTheStatusTellsWhatIsSet(t *testing.T) {
	b := newBench(t, nil)
	count := func(p []byte) uint32 { return binary.BigEndian.Uint32(p[8:]) }
	off := b.securityIn(0x20)
	if len(off) != 24 || off[5] != 0 || off[6] != 0 {
		t.Fatalf("at first: %x", off)
	}
	if err := b.setKey(2, 3, 0x04, keyBytes(1)); err != nil { // CKOD
		t.Fatal(err)
	}
	on := b.securityIn(0x20)
	if on[4] != 0x42 || on[5] != 2 || on[6] != 3 || on[7] != 1 || count(on) != count(off)+1 || bytes.Contains(on, keyBytes(1)) {
		t.Fatalf("with a key: %x", on)
	}
	b.must(0x1b, 0, 0, 0, 0, 0)
	if gone := b.securityIn(0x20); gone[5] != 0 || gone[6] != 0 || count(gone) == count(on) {
		t.Fatalf("after the medium went: %x", gone)
	}
	if err := b.setKey(2, 3, 0, keyBytes(1)); err != nil {
		t.Fatal(err)
	}
	if err := b.d.PowerCut(0); err != nil {
		t.Fatal(err)
	}
	b.calm()
	if gone := b.securityIn(0x20); gone[5] != 0 || gone[6] != 0 {
		t.Fatalf("after a power cut: %x", gone)
	}
}

// The parameter list of the reference driver.
func TestTheListOfTheDriverIsTaken(t *testing.T) {
	b := newBench(t, nil)
	list, err := hex.DecodeString("00100030400002030100" + "0000000000000000" + "0020" + hex.EncodeToString(keyBytes(7)))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := b.d.Execute([]byte{0xb5, 0x20, 0, 0x10, 0, 0, 0, 0, 0, 0x34, 0, 0}, list, nil); n != 52 || err != nil {
		t.Fatalf("set: %d, %v", n, err)
	}
	list, _ = hex.DecodeString("0010001040000000010000000000000000000000")
	if n, err := b.d.Execute([]byte{0xb5, 0x20, 0, 0x10, 0, 0, 0, 0, 0, 0x14, 0, 0}, list, nil); n != 20 || err != nil {
		t.Fatalf("clear: %d, %v", n, err)
	}
}

func TestABadKeyChangesNothing(t *testing.T) {
	b := newBench(t, nil)
	if err := b.setKey(2, 3, 0, keyBytes(1)); err != nil {
		t.Fatal(err)
	}
	before := b.securityIn(0x20)
	b.says(b.setKey(2, 3, 0, keyBytes(1)[:16]), scsi.IllegalRequest, 0x2600)
	b.says(b.setKey(1, 3, 0, keyBytes(1)), scsi.IllegalRequest, 0x2600)
	b.says(b.setKey(2, 1, 0, keyBytes(1)), scsi.IllegalRequest, 0x2600)
	b.says(b.setKey(2, 3, 0, nil), scsi.IllegalRequest, 0x2600)
	page := append([]byte{0, 0x10, 0, 54, 0x40, 0, 2, 3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32}, keyBytes(2)...)
	page = append(page, 0, 0, 0, 9, 'n', 'a') // a name that is cut
	_, err := b.d.Execute([]byte{0xb5, 0x20, 0, 0x10, 0, 0, 0, 0, 0, byte(len(page)), 0, 0}, page, nil)
	b.says(err, scsi.IllegalRequest, 0x2600)
	if after := b.securityIn(0x20); !bytes.Equal(before, after) {
		t.Fatalf("the status was %x and is %x", before, after)
	}
}

func TestADriveWithoutEncryptionDoesNotKnowIt(t *testing.T) {
	b := newBench(t, func(c *drive.Config, _ *cartridge.Memory) { c.Quirks.NoEncryption = true })
	b.says(b.setKey(2, 3, 0, keyBytes(1)), scsi.IllegalRequest, 0x2000)
}

// attributes reads all attributes.
func (b *bench) attributes() map[uint16]string {
	b.t.Helper()
	p := b.ok(32768, 0x8c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0)
	be := binary.BigEndian
	if int(be.Uint32(p)) != len(p)-4 {
		b.t.Fatalf("%d bytes, and the length says %d", len(p), be.Uint32(p))
	}
	all := map[uint16]string{}
	last := -1
	for p = p[4:]; len(p) > 0; {
		id, n := be.Uint16(p), int(be.Uint16(p[3:]))
		if int(id) <= last {
			b.t.Fatalf("attribute %04x comes after %04x", id, last)
		}
		last = int(id)
		all[id] = string(p[5 : 5+n])
		p = p[5+n:]
	}
	return all
}

func attributeRecord(id uint16, format byte, value string) []byte {
	be := binary.BigEndian
	return append(be.AppendUint16(append(be.AppendUint16(nil, id), format), uint16(len(value))), value...)
}

func (b *bench) writeAttributes(records ...[]byte) error {
	list := slices.Concat(records...)
	list = append(binary.BigEndian.AppendUint32(nil, uint32(len(list))), list...)
	cdb := binary.BigEndian.AppendUint32([]byte{0x8d, 1, 0, 0, 0, 0, 0, 0, 0, 0}, uint32(len(list)))
	_, err := b.d.Execute(append(cdb, 0, 0), list, nil)
	return err
}

func padded(s string, n int) string { return s + string(make([]byte, n-len(s))) }

func TestAttributesStayWithTheCartridge(t *testing.T) {
	b := newBench(t, nil)
	label := padded("TEST01L8", 160)
	if err := b.writeAttributes(attributeRecord(0x0803, 2, label), attributeRecord(0x0800, 1, padded("Holdfast", 8))); err != nil {
		t.Fatal(err)
	}
	b.remove()
	b.insert()
	all := b.attributes()
	for id, want := range map[uint16]string{
		0x0001: "\x00\x00\x00\x00\x00\x00\x00\x40", // MiB
		0x0003: "\x00\x00\x00\x00\x00\x00\x00\x02",
		0x020a: "IBM     DRV0000001" + string(bytes.Repeat([]byte(" "), 22)),
		0x0401: "S0000001" + string(bytes.Repeat([]byte(" "), 24)),
		0x0405: "\x5e",
		0x0406: "20250102",
		0x0803: label,
		0x0800: "Holdfast",
	} {
		if all[id] != want {
			t.Errorf("attribute %04x is %q, want %q", id, all[id], want)
		}
	}
	if err := b.writeAttributes(attributeRecord(0x0803, 2, "")); err != nil {
		t.Fatal(err)
	}
	if _, there := b.attributes()[0x0803]; there {
		t.Error("an attribute that was deleted is there")
	}
}

func TestAttributesAreWrittenAllOrNone(t *testing.T) {
	b := newBench(t, nil)
	good := attributeRecord(0x0800, 1, padded("Holdfast", 8))
	for name, bad := range map[string][]byte{
		"one of the medium": attributeRecord(0x0401, 1, padded("x", 32)),
		"another length":    attributeRecord(0x0801, 1, "x"),
		"another format":    attributeRecord(0x0801, 0, padded("x", 32)),
		"half a record":     {0x08, 0x01, 1, 0, 32, 'x'},
		"a header's half":   {0x08, 0x01, 1},
	} {
		if err := b.writeAttributes(good, bad); err == nil {
			t.Errorf("%s was taken", name)
		}
		if _, there := b.attributes()[0x0800]; there {
			t.Errorf("%s: the good one was written", name)
		}
	}
	b.disk.StopAfter(0)
	b.says(b.writeAttributes(good), scsi.HardwareError, 0x4400)
	b.disk.StopAfter(-1)
	if _, there := b.attributes()[0x0800]; there {
		t.Error("one that the disk did not take is there")
	}
	if err := b.writeAttributes(attributeRecord(0x080c, 0, padded("x", 1023))); err != nil {
		t.Fatal(err)
	}
}

func TestDensitiesAreThoseThatTheDriveReads(t *testing.T) {
	b := newBench(t, nil)
	list := func(media byte) (codes []byte) {
		p := b.ok(4096, 0x44, media, 0, 0, 0, 0, 0, 0x10, 0, 0)
		if int(binary.BigEndian.Uint16(p)) != len(p)-2 || (len(p)-4)%52 != 0 {
			t.Fatalf("the answer is %x", p)
		}
		for p = p[4:]; len(p) > 0; p = p[52:] {
			codes = append(codes, p[0])
			if p[0] == 0x5e && (p[2] != 0xa0 || binary.BigEndian.Uint32(p[12:]) != 12_000_000 || string(p[24:29]) != "U-832") {
				t.Errorf("LTO-8 is %x", p[:52])
			}
		}
		return codes
	}
	if got := list(0); !bytes.Equal(got, []byte{0x5c, 0x5d, 0x5e}) {
		t.Errorf("it reads %x", got)
	}
	if got := list(1); !bytes.Equal(got, []byte{0x5e}) {
		t.Errorf("it holds %x", got)
	}
	b.remove()
	b.says(b.do(0x44, 1, 0, 0, 0, 0, 0, 0x10, 0, 0), scsi.NotReady, 0x3a00)
}

func TestAlertsAreTakenDownByOnePageAlone(t *testing.T) {
	b := newBench(t, nil)
	b.d.RaiseAlert(1)
	b.d.RaiseAlert(0x39)
	want := []byte{0x80, 0, 0, 0, 0, 0, 0, 0x80}
	for range 2 {
		if p := b.ok(64, 0x4d, 0, 0x52, 0, 0, 0, 0, 0, 64, 0); !bytes.Equal(p[8:], want) {
			t.Fatalf("page 12 is %x, want flags 1 and 39h", p)
		}
	}
	p := b.ok(512, 0x4d, 0, 0x6e, 0, 0, 0, 0, 2, 0, 0)
	if len(p) != 4+64*5 || p[8] != 1 || p[4+0x38*5+4] != 1 {
		t.Fatalf("page 2e is %x", p)
	}
	if p := b.ok(64, 0x4d, 0, 0x52, 0, 0, 0, 0, 0, 64, 0); !bytes.Equal(p[8:], make([]byte, 8)) {
		t.Fatalf("they are still up: %x", p)
	}
}

func TestTheVolumeStatisticsCount(t *testing.T) {
	b := newBench(t, nil)
	b.fill(3_000_000, 2_000_000)
	if _, err := b.read(3_000_000); err != nil {
		t.Fatal(err)
	}
	p := b.ok(4096, 0x4d, 0, 0x57, 0, 0, 0, 0, 0x10, 0, 0)
	got := map[uint16]uint64{}
	for q := p[4:]; len(q) > 0; q = q[4+int(q[3]):] {
		var v uint64
		for _, x := range q[4 : 4+int(q[3])] {
			v = v<<8 | uint64(x)
		}
		got[binary.BigEndian.Uint16(q)] = v
	}
	for code, want := range map[uint16]uint64{0x00: 1, 0x01: 1, 0x0e: 5, 0x0f: 3, 0x10: 5, 0x16: 67, 0x17: 5, 0x80: 0, 0x81: 0} {
		if got[code] != want {
			t.Errorf("parameter %04x is %d, want %d", code, got[code], want)
		}
	}
}

func TestAPaddedAnswerHasTheLengthThatWasAllowed(t *testing.T) {
	b := newBench(t, func(c *drive.Config, _ *cartridge.Memory) { c.Quirks.Padded = true })
	for _, cdb := range [][]byte{
		{0x5a, 8, 0x0f, 0, 0, 0, 0, 0, 200, 0},
		{0x4d, 0, 0x52, 0, 0, 0, 0, 0, 200, 0},
		{0x8c, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 200, 0, 0},
	} {
		if got := b.ok(256, cdb...); len(got) != 200 {
			t.Errorf("%x gives %d bytes", cdb, len(got))
		}
	}
}
