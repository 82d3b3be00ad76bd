package drive_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// decode has a program of sg3-utils take an answer apart.
func decode(t *testing.T, answer []byte, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("needs %s (Debian package sg3-utils)", name)
	}
	file := filepath.Join(t.TempDir(), "answer")
	if err := os.WriteFile(file, answer, 0o600); err != nil {
		t.Fatal(err)
	}
	for i, a := range args {
		args[i] = strings.ReplaceAll(a, "FILE", file)
	}
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return string(out)
}

// wantLines fails for lines that are not in what a program says, blanks at both
// ends aside.
func wantLines(t *testing.T, out string, lines ...string) {
	t.Helper()
	said := map[string]bool{}
	for line := range strings.Lines(out) {
		said[strings.TrimSpace(line)] = true
	}
	for _, l := range lines {
		if !said[l] {
			t.Errorf("%q is not in:\n%s", l, out)
		}
	}
}

func TestForeignProgramsUnderstandTheLogPages(t *testing.T) {
	b := newBench(t, nil)
	b.fill(3_000_000, 2_000_000)
	b.must(0x11, 0, 0, 0, 1, 0)
	for page, lines := range map[byte][]string{
		0x00: {"0x02        Write error [we]", "0x17        Volume statistics [vs]", "0x31        Tape capacity (lto-5, 6) [tc_]"},
		0x02: {"Total bytes processed = 5000000", "Total uncorrected errors = 0"},
		0x0c: {
			"Native capacity from BOP to EOD: 5 MB", "Native capacity from BOP to EW of current partition: 66 MB",
			"Native capacity from BOP to current position: 3 MB", "Cleaning action not required (or completed)",
		},
		0x11: {"PAMR=0 HUI=0 MACC=1 CMPR=1 WRTP=0 CRQST=0 CRQRD=0 DINIT=1", "DT device activity: No DT device activity"},
		0x12: {"Flag01h: 0  02h: 0  03h: 1  04h: 0  05h: 0  06h: 0  07h: 0  08h: 0"},
		0x17: {
			"Page valid: 1", "Total native capacity [MB]: 67", "Total used native capacity [MB]: 5",
			"Volume serial number: S0000001", "Volume barcode: TEST01L8", "WORM: 0",
		},
		0x2e: {"Read warning: 0", "Hard error: 1"},
		0x31: {"Main partition remaining capacity (in MiB): 59", "Main partition maximum capacity (in MiB): 64"},
	} {
		b.d.RaiseAlert(3) // page 2e takes it down
		answer := b.ok(4096, 0x4d, 0, 0x40|page, 0, 0, 0, 0, 0x10, 0, 0)
		wantLines(t, decode(t, answer, "sg_logs", "--in=FILE", "--raw", "--pdt=1"), lines...)
	}
}

func TestForeignProgramsUnderstandTheMemory(t *testing.T) {
	b := newBench(t, nil)
	b.fill(3_000_000)
	if err := b.writeAttributes(attributeRecord(0x0801, 1, padded("Holdfast", 32)), attributeRecord(0x0808, 2, padded("daily", 160))); err != nil {
		t.Fatal(err)
	}
	answer := b.ok(32768, 0x8c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0)
	wantLines(t, decode(t, answer, "sg_read_attr", "--in=FILE", "--raw"),
		"Remaining capacity in partition [MiB]: 61", "Load count: 1", "Format density code: 0x5e", "Total MiB written in medium life: 2",
		"Medium serial number: S0000001", "Medium manufacture date: 20250102", "Application name: Holdfast")
}

func TestForeignProgramsUnderstandTheIdentity(t *testing.T) {
	b := newBench(t, nil)
	wantLines(t, decode(t, b.ok(255, 0x12, 0, 0, 0, 255, 0), "sg_inq", "--inhex=FILE", "--raw"),
		"length=74 (0x4a)   Peripheral device type: tape", "Vendor identification: IBM", "Product identification: ULT3580-TD8")
	for page, lines := range map[byte][]string{
		0x00: {"Unit serial number [sn]", "Sequential access device capabilities (SSC) [sad]"},
		0x80: {"Unit serial number: DRV0000001"},
		0x83: {"designator type: T10 vendor identification,  code set: ASCII", "vendor specific: ULT3580-TD8     DRV0000001"},
		0xb0: {"WORM=1"},
		0xb1: {"Manufacturer-assigned serial number: DRV0000001"},
	} {
		names := map[byte]string{0x00: "sv", 0x80: "sn", 0x83: "di", 0xb0: "sad", 0xb1: "mas"}
		answer := b.ok(255, 0x12, 1, page, 0, 255, 0)
		wantLines(t, decode(t, answer, "sg_vpd", "--inhex=FILE", "--raw", "--page="+names[page]), lines...)
	}
}
