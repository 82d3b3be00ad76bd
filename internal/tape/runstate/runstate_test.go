package runstate

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/tape"
)

var library = tape.ChangerStatus{
	Drives: []tape.DriveElement{
		{Content: tape.Content{Full: true, Label: "E01001L8"}, From: 3, Vendor: "IBM", Model: "ULT3580-TD8", Serial: "XYZZY_A1"},
		{},
	},
	Slots: []tape.Slot{
		{Content: tape.Content{Full: true, Label: "CLN001"}},
		{Content: tape.Content{Full: true}},
		{ImportExport: true},
	},
	Arms: []tape.Content{{}},
}

const libraryJSON = `{
  "drives": [
    {
      "loaded_slot": 3,
      "status": {
        "VolumeTag": "E01001L8"
      },
      "drive_serial_number": "XYZZY_A1",
      "vendor": "IBM",
      "model": "ULT3580-TD8",
      "element_address": 0
    },
    {
      "loaded_slot": null,
      "status": "Empty",
      "drive_serial_number": null,
      "vendor": null,
      "model": null,
      "element_address": 0
    }
  ],
  "slots": [
    {
      "import_export": false,
      "status": {
        "VolumeTag": "CLN001"
      },
      "element_address": 0
    },
    {
      "import_export": false,
      "status": "Full",
      "element_address": 0
    },
    {
      "import_export": true,
      "status": "Empty",
      "element_address": 0
    }
  ],
  "transports": [
    {
      "status": "Empty",
      "element_address": 0
    }
  ]
}`

func TestChangerStateIsKeptInTheFormOfPBS(t *testing.T) {
	d := New(t.TempDir())
	if _, ok, err := d.Changer("lib1"); ok || err != nil {
		t.Fatal(ok, err)
	}
	if err := d.SaveChanger("lib1", library); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(d.path, "changer-state", "lib1"))
	if err != nil || string(b) != libraryJSON {
		t.Fatalf("%v\n%s", err, b)
	}
	st, ok, err := d.Changer("lib1")
	if !ok || err != nil || !reflect.DeepEqual(st, library) {
		t.Fatalf("%+v, %v, %v", st, ok, err)
	}
	for range 2 {
		if err := d.ForgetChanger("lib1"); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok, err := d.Changer("lib1"); ok || err != nil {
		t.Fatal(ok, err)
	}
}

func TestChangerStateThatIsNoneIsRefused(t *testing.T) {
	for _, text := range []string{"", "[]", `{"slots":[{"status":"Half"}]}`, `{"slots":[{"status":{}}]}`, `{"slots":[{"status":7}]}`} {
		if st, err := parseChanger([]byte(text)); !errors.Is(err, ErrFormat) {
			t.Errorf("%q: %+v, %v", text, st, err)
		}
	}
}

func TestDriveStateIsText(t *testing.T) {
	d := New(t.TempDir())
	for _, text := range []string{"", "reading label", "UPID:host:1", ""} {
		if err := d.SetDrive("drive1", text); err != nil {
			t.Fatal(err)
		}
		if got, err := d.Drive("drive1"); got != text || err != nil {
			t.Fatalf("%q, %v; want %q", got, err, text)
		}
	}
}

func TestNamesDoNotLeaveTheirDirectory(t *testing.T) {
	d := New(t.TempDir())
	for _, name := range []string{"", "..", "../x", "a/b", ".x"} {
		if err := d.SetDrive(name, "x"); err == nil {
			t.Errorf("drive %q was taken", name)
		}
		if err := d.SaveChanger(name, library); err == nil {
			t.Errorf("changer %q was taken", name)
		}
	}
}

func FuzzParseChanger(f *testing.F) {
	f.Add([]byte(libraryJSON))
	f.Fuzz(func(t *testing.T, b []byte) {
		st, err := parseChanger(b)
		if err != nil {
			return
		}
		d := New(t.TempDir())
		if err := d.SaveChanger("lib1", st); err != nil {
			t.Fatal(err)
		}
		if _, ok, err := d.Changer("lib1"); !ok || err != nil {
			t.Fatal(ok, err)
		}
	})
}
