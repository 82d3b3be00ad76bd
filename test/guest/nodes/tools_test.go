//go:build linux

package nodes

import (
	"os"
	"os/exec"
	"strings"
	"testing"
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
	wantWords(t, run(t, "mt", "-f", tape, "status"), "LTO-8")
	run(t, "mt", "-f", tape, "setblk", "0")
	run(t, "dd", "if="+os.Args[0], "of="+tape, "bs=256k", "count=2", "iflag=fullblock", "status=none")
	run(t, "mt", "-f", tape, "weof", "1")
	run(t, "dd", "if="+os.Args[0], "of="+tape, "bs=256k", "count=1", "iflag=fullblock", "status=none")
	wantWords(t, run(t, "mt", "-f", tape, "tell"), "At block 5") // 2 blocks, their mark, the one asked for, 1 block and its mark on close
	run(t, "mt", "-f", tape, "rewind")
	run(t, "mt", "-f", tape, "fsf", "2")
	wantWords(t, run(t, "sh", "-c", "dd if="+tape+" bs=256k status=none | wc -c"), "262144")
	run(t, "mt", "-f", tape, "rewind")
	wantWords(t, run(t, "sh", "-c", "dd if="+tape+" bs=256k status=none | wc -c"), "524288")
}
