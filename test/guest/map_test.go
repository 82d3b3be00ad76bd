package guest_test

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/appliance"
	"github.com/holdfast-backup/holdfast/internal/appliance/appliancetest"
)

const msReadOnly = 1 // of mount(2)

// mapWithTheProgram backs both disks up inside and maps them as users do. The repository is in
// memory: making its 65,536 directories on a disk takes the emulated processor a minute.
func mapWithTheProgram(t *testing.T, vm *appliancetest.VM) {
	holdfast(t, vm, "init", "/run/repo")
	holdfast(t, vm, "backup", "gpt.img:/dev/vda", "mbr.img:/dev/vdb", "--backup-type", "vm", "--backup-id", "100")
	for _, tc := range []struct {
		name, archive string
		flags         []string
		partitions    map[int]string
	}{
		{"loop, GPT", "gpt.img", nil, map[int]string{1: "ext4", 2: "vfat", 3: "xfs", 4: "btrfs"}},
		{"loop, MBR", "mbr.img", nil, map[int]string{1: "ext4", 5: "vfat"}},
		{"nbd, GPT", "gpt.img", []string{"--nbd"}, map[int]string{1: "ext4", 2: "vfat", 3: "xfs", 4: "btrfs"}},
		{"nbd, MBR", "mbr.img", []string{"--nbd"}, map[int]string{1: "ext4", 5: "vfat"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			device := mapped(t, vm, tc.archive, tc.flags...)
			for n, fstype := range tc.partitions {
				readHello(t, vm, device+"p"+strconv.Itoa(n), fstype)
			}
			holdfast(t, vm, "unmap", device)
			noMappings(t, vm)
		})
	}
	t.Run("killed, loop", func(t *testing.T) { killMapping(t, vm) })
	t.Run("killed, nbd", func(t *testing.T) { killMapping(t, vm, "--nbd", "--dead-timeout", "2s") })
}

// killMapping kills a mapping's process under a mounted file system.
func killMapping(t *testing.T, vm *appliancetest.VM, flags ...string) {
	device := mapped(t, vm, "gpt.img", flags...)
	if err := vm.Mount(ctx(t), device+"p1", "/mnt", "ext4", msReadOnly, "noload"); err != nil {
		t.Fatal(err)
	}
	var list []struct {
		PID int `json:"pid"`
	}
	out := holdfast(t, vm, "map", "--output-format", "json")
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 || list[0].PID == 0 {
		t.Fatalf("the list of mappings: %v: %s", err, out)
	}
	pid := strconv.Itoa(list[0].PID)
	if _, err := vm.Output(ctx(t), "sh", "-c", "kill -9 "+pid); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	r, err := vm.Run(ctx(t), appliance.Cmd{Args: []string{"dd", "if=" + device, "of=/dev/null", "bs=1M", "skip=200", "count=8"}})
	if err != nil || r.Code == 0 {
		t.Errorf("reading from a device without a server: %+v, %v", r, err)
	}
	t.Logf("a read failed after %v", time.Since(start))
	if err := vm.Unmount(ctx(t), "/mnt"); err != nil {
		t.Error(err)
	}
	holdfast(t, vm, "unmap") // clears away what is left
	noMappings(t, vm)
	if out, err := vm.Output(ctx(t), "ps", "-A", "-o", "stat,args"); err != nil || blocked(string(out)) {
		t.Errorf("a process hangs: %v\n%s", err, out)
	}
}

func blocked(list string) bool {
	for line := range strings.Lines(list) {
		if strings.HasPrefix(line, "D") && !strings.Contains(line, "[") { // not the kernel's own
			return true
		}
	}
	return false
}

// mapped maps an archive and returns the device, the last word of what the program prints.
func mapped(t *testing.T, vm *appliancetest.VM, archive string, flags ...string) string {
	t.Helper()
	out := strings.TrimSpace(holdfast(t, vm, append([]string{"map", "vm/100", archive}, flags...)...))
	device := out[strings.LastIndexByte(out, ' ')+1:]
	if !strings.HasPrefix(device, "/dev/") {
		t.Fatalf("map printed %q", out)
	}
	return device
}

func noMappings(t *testing.T, vm *appliancetest.VM) {
	t.Helper()
	if out := strings.TrimSpace(holdfast(t, vm, "map", "--output-format", "json")); out != "[]" {
		t.Errorf("mappings are left: %s", out)
	}
}

func readHello(t *testing.T, vm *appliancetest.VM, node, fstype string) {
	t.Helper()
	options := map[string]string{"ext4": "noload", "xfs": "norecovery,nouuid"}[fstype]
	if err := vm.Mount(ctx(t), node, "/mnt", fstype, msReadOnly, options); err != nil {
		t.Error(err)
		return
	}
	var b bytes.Buffer
	if err := vm.Get(ctx(t), "/mnt/hello", &b); err != nil || strings.TrimSpace(b.String()) != "hello from "+fstype {
		t.Errorf("%s: read %q, %v", node, b.String(), err)
	}
	if err := vm.Unmount(ctx(t), "/mnt"); err != nil {
		t.Error(err)
	}
}

// holdfast runs the program in the guest.
func holdfast(t *testing.T, vm *appliancetest.VM, args ...string) string {
	t.Helper()
	var out, serr bytes.Buffer
	r, err := vm.Run(ctx(t), appliance.Cmd{
		Args: append([]string{"holdfast"}, args...), Env: []string{"HOLDFAST_REPOSITORY=/run/repo"},
		Stdout: &out, Stderr: &serr,
	})
	if err != nil || r.Err() != nil {
		t.Fatalf("holdfast %q: %v, %v: %s", args, r.Err(), err, serr.String())
	}
	return out.String()
}
