//go:build linux

package nodes

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// stenc is another program that puts keys into drives, and shows what is set.
func TestAForeignProgramSetsKeys(t *testing.T) {
	_, nodes := attach(t, newDrive(t, "DRV0000012"))
	node, tape := nodes[0].Generic, nodes[0].Kernel[0]
	open(t, node)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(strings.Repeat("01", 32)+"\nthe key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantWords(t, run(t, "stenc", "-f", node, "--detail"), "Drive Encryption:        off")
	run(t, "stenc", "-f", node, "-e", "on", "-k", key, "-a", "1")
	wantWords(t, run(t, "stenc", "-f", node, "--detail"),
		"Drive Encryption:        on", "Unencrypted data not outputted", "Encryption Algorithm:    1", "Drive Key Desc.(uKAD):   the key")
	run(t, "mt-st", "-f", tape, "setblk", "0")
	run(t, "dd", "if="+os.Args[0], "of="+tape, "bs=64k", "count=1", "iflag=fullblock", "status=none")
	run(t, "mt-st", "-f", tape, "rewind")
	wantWords(t, run(t, "stenc", "-f", node, "--detail"), "Volume Encryption:       Encrypted and able to decrypt")
	run(t, "stenc", "-f", node, "-e", "off", "-a", "1")
	wantWords(t, run(t, "stenc", "-f", node, "--detail"), "Drive Encryption:        off", "Volume Encryption:       Encrypted, but unable to decrypt")
}
