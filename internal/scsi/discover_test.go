package scsi_test

import (
	"errors"
	"io/fs"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/holdfast-backup/holdfast/internal/scsi"
)

// machine is a /sys and a /dev with a drive, a changer, a disk, and a drive
// that is just being taken away.
func machine() (sys, dev fstest.MapFS) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	link := func(to string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(to), Mode: fs.ModeSymlink} }
	const host = "devices/pci0/host2/target2:0:0/"
	return fstest.MapFS{
		"class/scsi_generic/sg10":                 link("../../" + host + "2:0:0:0/scsi_generic/sg10"),
		"class/scsi_generic/sg2":                  link("../../" + host + "2:0:0:1/scsi_generic/sg2"),
		"class/scsi_generic/sg0":                  link("../../" + host + "2:0:0:9/scsi_generic/sg0"),
		"class/scsi_generic/sg3":                  link("../../" + host + "2:0:0:7/scsi_generic/sg3"),
		host + "2:0:0:0/scsi_generic/sg10/dev":    file("21:10\n"),
		host + "2:0:0:0/scsi_generic/sg10/device": link("../.."),
		host + "2:0:0:0/type":                     file("1\n"),
		host + "2:0:0:0/vendor":                   file("IBM     \n"),
		host + "2:0:0:0/model":                    file("ULT3580-TD8     \n"),
		host + "2:0:0:0/rev":                      file("HB82\n"),
		host + "2:0:0:0/vpd_pg80":                 file("\x01\x80\x00\x0a10WT012345garbage"),
		host + "2:0:0:0/scsi_device/2:0:0:0/x":    file(""),
		host + "2:0:0:0/scsi_tape/st0/dev":        file(""),
		host + "2:0:0:0/scsi_tape/nst0/dev":       file(""),
		host + "2:0:0:0/scsi_tape/nst0a/dev":      file(""),
		host + "2:0:0:1/scsi_generic/sg2/device":  link("../.."),
		host + "2:0:0:1/type":                     file("8\n"),
		host + "2:0:0:1/vendor":                   file("STK     \n"),
		host + "2:0:0:1/model":                    file("L700            \n"),
		host + "2:0:0:1/vpd_pg80":                 file("\x08\x80\x00\x0a10WT012345"),
		host + "2:0:0:1/scsi_changer/sch0/dev":    file(""),
		host + "2:0:0:9/scsi_generic/sg0/device":  link("../.."),
		host + "2:0:0:9/type":                     file("0\n"),
		host + "2:0:0:7/scsi_generic/sg3/device":  link("../.."),
	}, fstest.MapFS{
		"tape/by-id/scsi-10WT012345-sg":  link("../../sg10"),
		"tape/by-id/scsi-10WT012345-nst": link("../../nst0"),
	}
}

func TestDrivesAndChangersAreFound(t *testing.T) {
	got, err := scsi.Discover(machine())
	if err != nil {
		t.Fatal(err)
	}
	want := []scsi.Found{
		{Type: scsi.TypeChanger, Vendor: "STK", Product: "L700", Serial: "10WT012345", Generic: "/dev/sg2", Kernel: []string{"/dev/sch0"}},
		{
			Type: scsi.TypeTape, Vendor: "IBM", Product: "ULT3580-TD8", Revision: "HB82", Serial: "10WT012345", Address: "2:0:0:0",
			Generic: "/dev/sg10", Kernel: []string{"/dev/nst0"}, Links: []string{"/dev/tape/by-id/scsi-10WT012345-sg"},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("found %+v, want %+v", got, want)
	}
}

func TestAMachineWithoutDevicesHasNone(t *testing.T) {
	if got, err := scsi.Discover(fstest.MapFS{}, fstest.MapFS{}); len(got) != 0 || err != nil {
		t.Fatalf("found %+v: %v", got, err)
	}
}

func TestADeviceIsNamedByItsSerialNumber(t *testing.T) {
	sys, dev := machine()
	for name, want := range map[string]string{"serial:10WT012345": "/dev/sg10", "/dev/sg7": "/dev/sg7"} {
		if got, err := scsi.Resolve(sys, dev, name, scsi.TypeTape); got != want || err != nil {
			t.Errorf("%s is %q: %v", name, got, err)
		}
	}
	for _, name := range []string{"serial:", "serial:10WT01234", "serial:10wt012345"} {
		if got, err := scsi.Resolve(sys, dev, name, scsi.TypeTape); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is %q: %v", name, got, err)
		}
	}
	sys["devices/pci0/host2/target2:0:0/2:0:0:1/type"].Data = []byte("1\n")
	if got, err := scsi.Resolve(sys, dev, "serial:10WT012345", scsi.TypeTape); err == nil || !strings.Contains(err.Error(), "/dev/sg2 and /dev/sg10") {
		t.Errorf("a number that two have is %q: %v", got, err)
	}
}
