//go:build linux

package nodes

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/scsi"
)

// run runs a program of the guest and wants it to succeed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return string(out)
}

func wantWords(t *testing.T, out string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(out, w) {
			t.Errorf("%q is not in: %s", w, out)
		}
	}
}

func TestForeignProgramsUseADrive(t *testing.T) {
	_, nodes := attach(t, newDrive(t, "DRV0000011"))
	sgNode, tape := nodes[0].Generic, nodes[0].Kernel[0]
	open(t, sgNode) // takes the unit attentions
	wantWords(t, run(t, "lsscsi", "-g"), "tape", "IBM", sgNode)
	wantWords(t, run(t, "sg_inq", sgNode), "IBM", "DRV0000011")
	wantWords(t, run(t, "sg_inq", "-p", "0x80", sgNode), "DRV0000011")
	run(t, "sg_turs", sgNode)
	wantWords(t, run(t, "sg_modes", "-p", "0xf", sgNode), "Data Compression")
	wantWords(t, run(t, "sg_logs", "-p", "0x11", sgNode), "device status")
	wantWords(t, run(t, "mt-st", "-f", tape, "status"), "LTO-8")
	run(t, "mt-st", "-f", tape, "setblk", "0")
	run(t, "dd", "if="+os.Args[0], "of="+tape, "bs=256k", "count=2", "iflag=fullblock", "status=none")
	run(t, "mt-st", "-f", tape, "weof", "1")
	run(t, "dd", "if="+os.Args[0], "of="+tape, "bs=256k", "count=1", "iflag=fullblock", "status=none")
	wantWords(t, run(t, "mt-st", "-f", tape, "tell"), "At block 6") // 2 blocks, their mark, the one asked for, 1 block and its mark
	run(t, "mt-st", "-f", tape, "rewind")
	run(t, "mt-st", "-f", tape, "fsf", "2")
	wantWords(t, run(t, "sh", "-c", "dd if="+tape+" bs=256k status=none | wc -c"), "262144")
	run(t, "mt-st", "-f", tape, "rewind")
	wantWords(t, run(t, "sh", "-c", "dd if="+tape+" bs=256k status=none | wc -c"), "524288")
}

func TestForeignProgramsUseALibrary(t *testing.T) {
	_, nodes := attach(t, newLibrary(t)...)
	var changer string
	var drives []scsi.Found
	for _, n := range nodes {
		if n.Type == scsi.TypeChanger {
			changer = n.Generic
			if len(n.Kernel) != 1 {
				t.Errorf("the kernel's driver ch did not take %+v", n)
			}
		} else {
			drives = append(drives, n)
		}
	}
	open(t, changer)
	wantWords(t, run(t, "lsscsi", "-g"), "mediumx", changer)
	wantWords(t, run(t, "mtx", "-f", changer, "inquiry"), "Medium Changer")
	wantWords(t, run(t, "mtx", "-f", changer, "status"), "2 Drives", "6 Slots", "Storage Element 1:Full", "VolumeTag=HLD001L8", "VolumeTag=HLD002L8")
	run(t, "mtx", "-f", changer, "load", "2", "1")
	wantWords(t, run(t, "mtx", "-f", changer, "status"), "Data Transfer Element 1:Full (Storage Element 2 Loaded)", "HLD002L8")
	d := open(t, drives[1].Generic)
	if err := scsi.CheckReady(d); err != nil {
		t.Fatal(err)
	}
	wantWords(t, run(t, "mt-st", "-f", drives[1].Kernel[0], "status"), "ONLINE")
	run(t, "mtx", "-f", changer, "unload", "3", "1")
	wantWords(t, run(t, "mtx", "-f", changer, "status"), "Data Transfer Element 1:Empty", "Storage Element 3:Full")
	if s, ok := scsi.AsSense(scsi.CheckReady(d)); !ok || s.ASC != 0x3a && s.Key != scsi.UnitAttention {
		t.Fatalf("an empty drive says %v", s)
	}
}
