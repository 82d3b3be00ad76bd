package lto_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/target"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/drive"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/fault"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/drivecrypt"
	"github.com/holdfast-backup/holdfast/internal/tape/lto"
	"github.com/holdfast-backup/holdfast/internal/tape/lto/mam"
	"github.com/holdfast-backup/holdfast/internal/tape/tapetest"
)

// putBlock writes a file of one block.
func putBlock(t *testing.T, d *lto.Drive, n int) {
	t.Helper()
	if _, err := d.WriteBlock(tapetest.Block(n)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.WriteFilemark(); err != nil {
		t.Fatal(err)
	}
}

func TestLongFormatsAreStartedAndWaitedFor(t *testing.T) {
	for _, tc := range []struct {
		name       string
		generation int
		density    cartridge.Density
		fast       bool
		commands   string // FORMAT and ERASE, with the byte that says how
		wait       time.Duration
	}{
		{"LTO-4, fast", 4, cartridge.LTO4, true, "19 02", 0},
		{"LTO-4", 4, cartridge.LTO4, false, "19 03", 3 * time.Hour},
		{"LTO-8, fast", 8, cartridge.LTO8, true, "04 01", time.Hour},
		{"LTO-8", 8, cartridge.LTO8, false, "04 01, 19 03", 4 * time.Hour},
		{"LTO-9, fast", 9, cartridge.LTO9, true, "19 02", 0},
		{"LTO-9", 9, cartridge.LTO9, false, "04 01, 19 03", 4 * time.Hour},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, func(s *setup) {
					s.drive.Generation, s.medium.Density = tc.generation, tc.density
					s.drive.Times = drive.Times{Format: time.Hour, Erase: 3 * time.Hour}
				})
				d := b.open(lto.Config{Version: "1"})
				putBlock(t, d, 1)
				b.seen.cdbs = nil
				start := time.Now()
				if err := d.Format(t.Context(), tc.fast); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); took < tc.wait || took > tc.wait+time.Minute {
					t.Errorf("it took %v, want %v", took, tc.wait)
				}
				var sent []string
				for _, c := range b.seen.cdbs {
					switch scsi.OpcodeOf(c) {
					case scsi.FormatMedium:
						sent = append(sent, "04 "+string('0'+rune(c[1]>>4))+string('0'+rune(c[1]&15)))
					case scsi.Erase:
						sent = append(sent, "19 "+string('0'+rune(c[1]>>4))+string('0'+rune(c[1]&15)))
					}
				}
				if got := strings.Join(sent, ", "); got != tc.commands {
					t.Errorf("sent %s, want %s", got, tc.commands)
				}
				if n, err := d.EndOfData(t.Context()); n != 0 || err != nil {
					t.Errorf("%d files are left, %v", n, err)
				}
			})
		})
	}
}

// working is a drive that says it is ready while it erases.
type working struct {
	target.Unit
	times *int
}

func (w working) Execute(cdb, out, in []byte) (int, error) {
	if scsi.OpcodeOf(cdb) == scsi.LogSense && cdb[2]&0x3f == 0x11 {
		doing := byte(0)
		if *w.times > 0 {
			*w.times--
			doing = 9
		}
		return copy(in, []byte{0x11, 0, 0, 8, 0, 0, 3, 4, 1, 0, doing, 0}), nil
	}
	return w.Unit.Execute(cdb, out, in)
}

func TestDriveThatErasesThoughItIsReadyIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		times := 5000
		d, err := lto.Open(t.Context(), target.Connect(working{newBench(t).unit, &times}), lto.Config{})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := d.Erase(t.Context(), false); err != nil || time.Since(start) != 5000*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		times = 1 << 30
		if err := d.Erase(t.Context(), false); err == nil || time.Since(start) > 26*time.Hour {
			t.Errorf("one that never ends: %v after %v", err, time.Since(start))
		}
	})
}

func TestWORMIsOverwrittenByNobody(t *testing.T) {
	b := newBench(t, func(s *setup) { s.medium.WORM = true })
	d := b.open(lto.Config{})
	if worm, err := d.WORM(); !worm || err != nil {
		t.Errorf("WORM is %v, %v", worm, err)
	}
	if err := d.Format(t.Context(), true); err != nil {
		t.Errorf("formatting an empty one: %v", err)
	}
	putBlock(t, d, 1)
	putBlock(t, d, 2)
	if err := d.Format(t.Context(), true); !errors.Is(err, tape.ErrWriteProtected) {
		t.Errorf("formatting one with data: %v", err)
	}
	if err := d.Rewind(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.WriteBlock(tapetest.Block(3)); !errors.Is(err, tape.ErrWriteProtected) {
		t.Errorf("overwriting: %v", err)
	}
	if n, err := d.EndOfData(t.Context()); n != 2 || err != nil {
		t.Errorf("%d files, %v", n, err)
	}
}

func TestWriteProtectedMediumIsReadOnly(t *testing.T) {
	b := newBench(t, func(s *setup) { s.medium.WriteProtect = true })
	d := b.open(lto.Config{})
	if s, err := d.Status(t.Context()); err != nil || !s.WriteProtect {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := d.WriteBlock(tapetest.Block(1)); !errors.Is(err, tape.ErrWriteProtected) {
		t.Errorf("WriteBlock: %v", err)
	}
	if err := d.Format(t.Context(), true); !errors.Is(err, tape.ErrWriteProtected) {
		t.Errorf("Format: %v", err)
	}
}

func TestCartridgeSaysWhoUsesItUntilItIsFormatted(t *testing.T) {
	d := newBench(t).open(lto.Config{Version: "1.2.3"})
	ours := func() (found []string) {
		t.Helper()
		all, _, err := d.Memory()
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range all {
			if a.ID >= 0x0800 && a.ID < 0x0900 {
				found = append(found, a.Value)
			}
		}
		return found
	}
	if err := d.Mark(t.Context(), "TEST01L8", ""); err != nil {
		t.Fatal(err)
	}
	if got, want := ours(), []string{"Holdfast", "Holdfast", "1.2.3", "TEST01L8"}; !slices.Equal(got, want) {
		t.Errorf("labelled: %q", got)
	}
	if err := d.Mark(t.Context(), "", "daily"); err != nil {
		t.Fatal(err)
	}
	if got, want := ours(), []string{"Holdfast", "Holdfast", "1.2.3", "TEST01L8", "daily"}; !slices.Equal(got, want) {
		t.Errorf("in a pool: %q", got)
	}
	if err := d.Format(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if got := ours(); len(got) != 0 {
		t.Errorf("formatted: %q", got)
	}
	all, odd, err := d.Memory()
	if err != nil || len(odd) != 0 || !slices.ContainsFunc(all, func(a mam.Attribute) bool { return a.ID == mam.Serial && a.Value == "S0000001" }) {
		t.Errorf("%v, %v, %v", all, odd, err)
	}
}

func TestStatusHasTheFieldsOfPBS(t *testing.T) {
	b := newBench(t)
	d := b.open(lto.Config{})
	putBlock(t, d, 1)
	if err := d.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.drive.RaiseAlert(0x14)
	b.drive.RaiseAlert(0x04)
	s, err := d.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"vendor": "IBM", "blocksize": 0.0, "buffer-mode": 1.0, "compression": true, "density": "LTO8", "drive-activity": "no-activity",
		"alert-flags": "MEDIA | CLEAN_NOW", "file-number": 1.0, "block-number": 2.0, "manufactured": 1735776000.0, "volume-mounts": 1.0,
	} {
		if fields[name] != want {
			t.Errorf("%s is %v, want %v", name, fields[name], want)
		}
	}
	for _, name := range []string{"product", "revision", "bytes-read", "bytes-written", "medium-passes", "medium-wearout"} {
		if _, ok := fields[name]; !ok {
			t.Errorf("%s is missing from %s", name, text)
		}
	}
	a, err := d.Alerts(t.Context())
	if err != nil || !a.Has(0x14) || !a.Has(0x04) || a.Critical() != 1<<3 {
		t.Errorf("alerts %v, %v", a, err)
	}
	if used, err := d.Used(t.Context()); used < 0 || err != nil {
		t.Errorf("used: %d, %v", used, err)
	}
	if err := d.Eject(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, err = d.Status(t.Context())
	if err != nil || s.Density.String() != "Unknown" || s.FileNumber != nil || s.VolumeMounts != nil {
		t.Errorf("without a medium: %+v, %v", s, err)
	}
}

func TestMediumWithoutStatisticsIsNoFailure(t *testing.T) {
	b := newBench(t, func(s *setup) { s.drive.Generation, s.medium.Density = 4, cartridge.LTO4 }) // without the page
	if _, err := b.open(lto.Config{}).Used(t.Context()); !errors.Is(err, tape.ErrUnsupported) {
		t.Errorf("without the page: %v", err)
	}
	b = newBench(t)
	notValid := answering{b.unit, scsi.LogSense, []byte{0x17, 0, 0, 5, 0, 0, 3, 1, 0}}
	d, err := lto.New(target.Connect(notValid), lto.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Used(t.Context()); !errors.Is(err, tape.ErrUnsupported) {
		t.Errorf("with an empty page: %v", err)
	}
}

func TestAlertsComeFromTheOtherPageWhereOneIsMissing(t *testing.T) {
	b := newBench(t, func(s *setup) {
		s.rules = append(s.rules, &fault.Rule{Ops: []scsi.Opcode{scsi.LogSense}, Sense: &scsi.Sense{Key: scsi.IllegalRequest, ASC: 0x24}})
	})
	d := b.open(lto.Config{})
	b.drive.RaiseAlert(0x01)
	if a, err := d.Alerts(t.Context()); a != 1 || err != nil {
		t.Errorf("%v, %v", a, err)
	}
}

func TestDensitiesOfTodayAndTomorrow(t *testing.T) {
	for d, want := range map[lto.Density]string{0: "Unknown", 0x46: "LTO4", 0x60: "LTO9", 0x63: "LTO10", 0x71: "0x71"} {
		if got := d.String(); got != want {
			t.Errorf("%02x is %s, want %s", uint8(d), got, want)
		}
	}
}

func TestLockedMediumStaysInTheDrive(t *testing.T) {
	b := newBench(t)
	d := b.open(lto.Config{})
	if err := d.Lock(true); err != nil {
		t.Fatal(err)
	}
	if _, err := b.drive.Remove(); err == nil {
		t.Error("it was taken out")
	}
	if err := d.Lock(false); err != nil {
		t.Fatal(err)
	}
	if err := d.Eject(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.Load(t.Context()); err != nil {
		t.Errorf("load: %v", err)
	}
}

// oneKey knows one tape key.
type oneKey struct{ set byte }

func (k oneKey) DataKey(of tape.KeyOf) (tape.DataKey, error) {
	if of.MediaSet[0] != k.set {
		return tape.DataKey{}, errAny
	}
	return tape.NewDataKey([32]byte{k.set, 1, 2, 3}), nil
}

func TestEncryptedFilesNeedTheirKey(t *testing.T) {
	b := newBench(t)
	cfg := lto.Config{Encrypter: drivecrypt.Local{Keys: oneKey{7}}}
	of := &tape.KeyOf{MediaSet: [16]byte{7}}
	d := b.open(cfg)
	putBlock(t, d, 1)
	if err := d.Encrypt(t.Context(), of); err != nil {
		t.Fatal(err)
	}
	putBlock(t, d, 2)
	if s, err := d.Encryption(); err != nil || !s.On() {
		t.Errorf("%v, %v", s, err)
	}
	if err := d.Encrypt(t.Context(), &tape.KeyOf{MediaSet: [16]byte{8}}); !errors.Is(err, errAny) {
		t.Errorf("an unknown key: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err := drivecrypt.Current(target.Connect(b.unit)); err != nil || !s.Off() {
		t.Errorf("the drive was closed and %v, %v", s, err)
	}
	d = b.open(cfg)
	p := make([]byte, tape.BlockSize)
	read := func(file uint64, want error) {
		t.Helper()
		if err := d.Locate(t.Context(), file); err != nil {
			t.Fatal(err)
		}
		n, err := d.ReadBlock(p)
		if !errors.Is(err, want) || want == nil && !bytes.Equal(p[:n], tapetest.Block(int(file)+1)) {
			t.Errorf("file %d: %d bytes, %v", file, n, err)
		}
	}
	read(0, nil)
	if err := d.Locate(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if n, err := d.NextBlock(); n != drivecrypt.NextForeign || err != nil {
		t.Errorf("next block: %v, %v", n, err)
	}
	read(1, tape.ErrKey)
	if err := d.Encrypt(t.Context(), of); err != nil {
		t.Fatal(err)
	}
	read(1, nil)
	read(0, nil)
	if err := d.Encrypt(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	read(1, tape.ErrKey)
}

func TestKeyDoesNotStayWhenTheMediumWasExchanged(t *testing.T) {
	b := newBench(t)
	d := b.open(lto.Config{Encrypter: drivecrypt.Local{Keys: oneKey{7}}})
	if err := d.Encrypt(t.Context(), &tape.KeyOf{MediaSet: [16]byte{7}}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.drive.Remove(); err != nil {
		t.Fatal(err)
	}
	b.insert("tape")
	if _, err := d.WriteBlock(tapetest.Block(1)); !errors.Is(err, tape.ErrChanged) {
		t.Errorf("err = %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err := drivecrypt.Current(target.Connect(b.unit)); err != nil || !s.Off() {
		t.Errorf("the drive was closed and %v, %v", s, err)
	}
}

func TestDriveWithoutEncryptionIsUsedWithoutIt(t *testing.T) {
	b := newBench(t, func(s *setup) { s.drive.Quirks.NoEncryption = true })
	d := b.open(lto.Config{Encrypter: drivecrypt.Local{Keys: oneKey{7}}})
	if err := d.Encrypt(t.Context(), nil); err != nil {
		t.Errorf("switching off: %v", err)
	}
	if err := d.Encrypt(t.Context(), &tape.KeyOf{MediaSet: [16]byte{7}}); !errors.Is(err, tape.ErrUnsupported) {
		t.Errorf("switching on: %v", err)
	}
}
