package qemu_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/guest/qemu"
	"github.com/holdfast-backup/holdfast/internal/guest/qemu/qemutest"
)

// What a backup describes is a machine that QEMU starts.
func TestDescribedMachineStartsAroundItsDisks(t *testing.T) {
	s := newSite(t)
	s.write(t, "root", 0, mib, 0x77)
	s.vm.IO(t, "root", "flush")
	var text []byte
	s.backup(t, func(j *guest.Job) {
		j.Taken = func(p guest.Point) { text = p.Configs()[0].Data }
	})
	m, err := qemu.ParseMachine(text)
	if err != nil {
		t.Fatal(err)
	}
	s.vm.Quit(t)
	raw := t.TempDir() + "/a, b.raw" // the data disk stands for both
	vm := qemutest.Start(t, qemutest.Spec{
		Paused: true, Bare: true,
		Disks: []qemutest.Disk{{ID: "unused", Path: raw, Format: "raw", Size: mib}},
		Args:  m.Arguments(map[string]string{"drive-root": raw, "drive-data": s.spec.Disks[1].Path}),
	})
	var disks []struct{ QDev, Device string }
	vm.Run(t, "query-block", nil, &disks)
	var got []string
	for _, d := range disks {
		got = append(got, d.QDev)
	}
	slices.Sort(got)
	if want := "/machine/peripheral/root/virtio-backend data"; strings.Join(got, " ") != want {
		t.Errorf("devices %q, want %q", got, want)
	}
}

func TestFirmwareAndItsVariablesGoWhereTheyWere(t *testing.T) {
	m := qemu.Machine{Firmware: "/usr/share/OVMF/CODE.fd", Disks: []qemu.MachineDisk{{Name: "drive-pflash1", Device: "/machine/system.flash1", Type: "cfi.pflash01"}}}
	got := strings.Join(m.Arguments(map[string]string{"drive-pflash1": "vars"}), " ")
	want := "-drive if=pflash,index=0,readonly=on,format=raw,file=/usr/share/OVMF/CODE.fd -drive if=pflash,index=1,format=raw,file=vars"
	if got != want {
		t.Errorf("got %s", got)
	}
}

func FuzzParseMachine(f *testing.F) {
	f.Add([]byte(`{"qemu":"7.2.22","name":"a","cpus":1,"memory":1048576,"disks":[{"name":"drive-a","device":"/machine/peripheral/a","type":"scsi-hd","id":"a","controller":"virtio-scsi-pci","controller_id":"s"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := qemu.ParseMachine(text)
		if err != nil {
			return
		}
		args := m.Arguments(map[string]string{"drive-a": "x"})
		if len(args)%2 != 0 {
			t.Fatalf("a flag without its value: %q", args)
		}
		for i := 0; i < len(args); i += 2 {
			if args[i] == "-device" && strings.Count(args[i+1], ",") > 3 {
				t.Fatalf("more options than were meant: %q", args[i+1])
			}
		}
	})
}
