package dm

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestControlsNumberIsThatOfTheKernelsList(t *testing.T) {
	table := filepath.Join(t.TempDir(), "misc")
	for _, tc := range []struct {
		text  string
		minor uint32
		known bool
	}{
		{"229 fuse\n237 loop-control\n 62 device-mapper\n", 62, true},
		{"229 fuse\n", controlMinor, false},
		{"device-mapper\nx device-mapper\n-1 device-mapper\n", controlMinor, false},
	} {
		if err := os.WriteFile(table, []byte(tc.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if minor, known := miscMinor(table, "device-mapper"); minor != tc.minor || known != tc.known {
			t.Errorf("%q: %d, %v", tc.text, minor, known)
		}
	}
	if minor, known := miscMinor(table+"x", "device-mapper"); minor != controlMinor || known {
		t.Errorf("%d, %v", minor, known)
	}
}

// The guest in which test/guest runs this has no device-mapper, and many hosts have none.
func TestKernelWithoutDeviceMapperIsAnErrorInWords(t *testing.T) {
	if _, known := miscMinor("/proc/misc", "device-mapper"); known {
		t.Skip("this kernel has it; test/guest runs this with one that has not")
	}
	_, before := os.Lstat(Dir + "/control")
	_, err := Open()
	if !errors.Is(err, ErrNoDriver) || !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("%v", err)
	}
	if _, err := os.Lstat(Dir + "/control"); err == nil && before != nil {
		t.Error("a node that leads nowhere was left behind")
	}
}
