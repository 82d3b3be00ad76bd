//go:build linux

package pve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/provider/providertest"
)

const mib = 1 << 20

const config = "memory: 128\n# größer\nscsi0: local:100/disk\n#qmdump#map:scsi0:drive-scsi0:local:raw:\n"

var sizes = map[string]int64{"scsi0": 12 * mib, "efidisk0": 4*mib + 512}

func guest(vmid int) map[string]any {
	return map[string]any{"vmid": vmid, "type": "qemu", "config": config}
}

// job is a job of guests.
func job(start int, more map[string]any, guests ...map[string]any) map[string]any {
	j := map[string]any{"start": start, "guests": guests}
	for k, v := range more {
		j[k] = v
	}
	return map[string]any{"job": j}
}

const start = 1_700_000_000

func contents(t *testing.T, m *providertest.Machine) map[string][]byte {
	t.Helper()
	c := map[string][]byte{}
	for d := range sizes {
		c["drive-"+d] = m.Content(t, d)
	}
	return c
}

// wantArchive restores an archive as Proxmox VE does and compares.
func (r *rig) wantArchive(target string, want map[string][]byte) {
	r.t.Helper()
	dir := r.t.TempDir()
	o := r.perl(map[string]any{"restore": map[string]any{"volname": "backup/" + target, "target": dir}})
	if o.Error != "" {
		r.t.Fatalf("restore of %s: %s\n%s", target, o.Error, o.log())
	}
	if o.Config != config || !strings.Contains(o.Firewall, "enable: 1") {
		r.t.Errorf("configurations of %s: %q, %q", target, o.Config, o.Firewall)
	}
	for device, content := range want {
		got, err := os.ReadFile(filepath.Join(dir, device+".raw"))
		if err != nil {
			r.t.Fatal(err)
		}
		if !bytes.Equal(got, content) {
			r.t.Errorf("%s of %s is not what the machine had", device, target)
		}
	}
}

// list is list_volumes of the plugin.
func (r *rig) list(vmid int) (list []map[string]any) {
	r.t.Helper()
	o := r.perl(map[string]any{"plugin": []any{"list_volumes", "store", r.scfg(), vmid, []string{"backup"}}})
	if o.Error != "" || len(o.Plugin) != 1 {
		r.t.Fatalf("list_volumes: %s %s", o.Error, o.Plugin)
	}
	if err := json.Unmarshal(o.Plugin[0], &list); err != nil {
		r.t.Fatal(err)
	}
	return list
}

func (r *rig) scfg() map[string]any {
	c := map[string]any{"type": "holdfast"}
	for k, v := range r.storage {
		c[k] = v
	}
	return c
}

func TestJobOfTwoMachinesIsStoredAndRestored(t *testing.T) {
	need(t)
	t.Run("repository", func(t *testing.T) { twoMachines(t, newRig(t), "pbs-vm") })
	t.Run("directory", func(t *testing.T) { twoMachines(t, newDirectoryRig(t), "qcow2") })
}

func twoMachines(t *testing.T, r *rig, format string) {
	a, b := r.machine(100, sizes), r.machine(101, sizes)
	a.Write(t, "scsi0", 0, 5*mib, 0x11)
	b.Write(t, "scsi0", mib, 4*mib, 0x22)
	for n, wantMode := range []string{"new", "use"} {
		wantA, wantB := contents(t, a), contents(t, b)
		o := r.perl(job(start+100*n, map[string]any{"protect": n == 0}, guest(100), guest(101)))
		if o.Error != "" || o.Guests[0].Error != "" || o.Guests[1].Error != "" {
			t.Fatalf("%+v", o)
		}
		if o.Guests[0].Size == 0 || format == "pbs-vm" && o.Guests[0].Size < 16*mib {
			t.Errorf("size %d", o.Guests[0].Size)
		}
		incremental := strings.Contains(o.log(), "incremental to")
		if incremental != (wantMode == "use") {
			t.Errorf("job %d is incremental: %v\n%s", n, incremental, o.log())
		}
		r.wantArchive(o.Guests[0].Target, wantA)
		r.wantArchive(o.Guests[1].Target, wantB)
		a.Write(t, "efidisk0", 4*mib, 512, byte(0x30+n))
		b.Write(t, "scsi0", 8*mib, 512, byte(0x40+n))
	}
	list := r.list(100)
	if o := r.perl(map[string]any{"config": list[0]["volid"]}); o.Error != "" || o.Config != config {
		t.Errorf("the configuration without a job: %q %s", o.Config, o.Error)
	}
	if len(list) != 2 || list[0]["notes"] != "notes of 100" || list[0]["protected"] != 1.0 || list[1]["protected"] != nil ||
		list[0]["subtype"] != "qemu" || list[0]["format"] != format {
		t.Errorf("list: %v", list)
	}
	if format != "pbs-vm" {
		if parent, want := list[1]["parent"], list[0]["volid"]; parent != want {
			t.Errorf("the parent is %v, want %v", parent, want)
		}
		return
	}
	if shown := r.holdfast("snapshot", "show-log", fmt.Sprint(strings.TrimPrefix(list[1]["volid"].(string), "store:backup/"))); !strings.Contains(shown, "incremental to") {
		t.Errorf("the log of the task: %q", shown)
	}
}

// Whatever fails, wherever, the next job is complete, and what was reported as
// stored is there.
func TestFailureAtEveryPlaceOfAJob(t *testing.T) {
	need(t)
	probe := newRig(t)
	probe.machine(100, sizes)
	places := probe.perl(job(start, nil, guest(100))).Places
	if len(places) < 20 {
		t.Fatalf("places: %q", places)
	}
	r := newRig(t)
	m := r.machine(100, sizes)
	m.Write(t, "scsi0", 0, 5*mib, 0x11)
	if o := r.perl(job(start, nil, guest(100))); o.Error != "" || o.Guests[0].Error != "" {
		t.Fatalf("%+v", o)
	}
	complete := 1
	for n, place := range places {
		m.Write(t, "scsi0", int64(n)*512, 512, byte(n))
		o := r.perl(job(start+1000*(n+1), map[string]any{"fail": place}, guest(100)))
		failed := o.Error != "" || o.Guests[0].Error != ""
		if wantWarning := strings.HasSuffix(place, "notes of 100"); failed == wantWarning {
			t.Errorf("%s: %+v", place, o)
		}
		m.Write(t, "efidisk0", int64(n)*512, 512, byte(n)) // after the failure
		want := contents(t, m)
		o = r.perl(job(start+1000*(n+1)+500, nil, guest(100)))
		if o.Error != "" || o.Guests[0].Error != "" {
			t.Fatalf("the job after %s: %+v", place, o)
		}
		if !strings.Contains(o.log(), "incremental to") {
			t.Errorf("the job after %s is not incremental: %s", place, o.log())
		}
		complete++
		if strings.HasPrefix(place, "behind backup_vm of") || strings.Contains(place, "notes") || strings.Contains(place, "cleanup") {
			complete++ // it was complete by then
		}
		if list := r.list(100); len(list) != complete {
			t.Errorf("after %s: %d archives, want %d", place, len(list), complete)
			complete = len(list)
		}
		r.wantArchive(o.Guests[0].Target, want)
	}
}

func TestFileHandlesOfNbdfuseAreRead(t *testing.T) {
	need(t, "nbdfuse", "nbdinfo", "fusermount3")
	r := newRig(t)
	r.storage["hf-vm-mechanism"] = "file-handle"
	m := r.machine(100, sizes)
	m.Write(t, "scsi0", 0, 5*mib, 0x11)
	for n := range 2 {
		want := contents(t, m)
		o := r.perl(job(start+100*n, nil, guest(100)))
		if o.Error != "" || o.Guests[0].Error != "" {
			t.Fatalf("%+v", o)
		}
		if incremental := strings.Contains(o.log(), "incremental to"); incremental != (n == 1) {
			t.Errorf("job %d: %s", n, o.log())
		}
		r.wantArchive(o.Guests[0].Target, want)
		m.Write(t, "scsi0", 8*mib, 512, 0x33)
		m.Write(t, "efidisk0", 4*mib, 512, 0x44)
	}
}

func TestFailedRestoreLeavesNothing(t *testing.T) {
	need(t)
	r := newRig(t)
	r.machine(100, sizes)
	o := r.perl(job(start, nil, guest(100)))
	for _, place := range []string{"check", "convert"} {
		got := r.perl(map[string]any{"restore": map[string]any{"volname": "backup/" + o.Guests[0].Target, "target": t.TempDir(), "fail": place}})
		if !strings.Contains(got.Error, "made to fail") || len(got.Log) > 0 {
			t.Errorf("%s: %+v", place, got)
		}
	}
}

// The service is killed at work: nothing of that backup is listed, the rest of the
// job goes on, and the next backup is incremental to the last good one.
func TestKilledServiceCostsOneBackup(t *testing.T) {
	need(t)
	r := newRig(t)
	m, other := r.machine(100, sizes), r.machine(101, sizes)
	m.Write(t, "scsi0", 0, 5*mib, 0x11)
	if o := r.perl(job(start, nil, guest(100), guest(101))); o.Error != "" || o.Guests[0].Error != "" {
		t.Fatalf("%+v", o)
	}
	m.Write(t, "scsi0", 4*mib, 8*mib, 0x22)
	killed := guest(100)
	killed["kill"] = "serve"
	want := contents(t, other)
	o := r.perl(job(start+100, map[string]any{"bwlimit": 2000}, killed, guest(101)))
	if o.Error != "" || !strings.Contains(o.Guests[0].Error, "has ended") || o.Guests[1].Error != "" || len(r.list(100)) != 1 {
		t.Fatalf("%+v", o)
	}
	r.wantArchive(o.Guests[1].Target, want)
	want = contents(t, m)
	o = r.perl(job(start+200, nil, guest(100)))
	if o.Guests[0].Error != "" || !strings.Contains(o.log(), "incremental to") {
		t.Fatalf("%+v", o)
	}
	r.wantArchive(o.Guests[0].Target, want)
}

// Somebody stops the task.
func TestInterruptedJobLosesNoChange(t *testing.T) {
	need(t)
	r := newRig(t)
	m := r.machine(100, sizes)
	m.Write(t, "scsi0", 0, 5*mib, 0x11)
	if o := r.perl(job(start, nil, guest(100))); o.Error != "" || o.Guests[0].Error != "" {
		t.Fatalf("%+v", o)
	}
	m.Write(t, "scsi0", 4*mib, 8*mib, 0x22)
	stopped := guest(100)
	stopped["kill"] = "job"
	o := r.perl(job(start+100, map[string]any{"bwlimit": 2000}, stopped, guest(101)))
	if !strings.Contains(o.Error, "interrupted by signal") || o.Guests[1].Target != "" || len(r.list(100)) != 1 {
		t.Fatalf("%+v", o)
	}
	want := contents(t, m)
	o = r.perl(job(start+200, nil, guest(100)))
	if o.Guests[0].Error != "" || !strings.Contains(o.log(), "incremental to") {
		t.Fatalf("%+v", o)
	}
	r.wantArchive(o.Guests[0].Target, want)
}

func TestEncryptedBackupsSayWithWhichKey(t *testing.T) {
	need(t)
	r := newRig(t)
	r.holdfast("key", "create", r.path("key.json"), "--kdf", "none")
	r.storage["hf-keyfile"] = r.path("key.json")
	m := r.machine(100, sizes)
	m.Write(t, "scsi0", 0, 5*mib, 0x11)
	want := contents(t, m)
	o := r.perl(job(start, nil, guest(100)))
	if o.Error != "" || o.Guests[0].Error != "" {
		t.Fatalf("%+v", o)
	}
	if list := r.list(100); len(list) != 1 || len(list[0]["encrypted"].(string)) < 64 {
		t.Errorf("list: %v", list)
	}
	r.wantArchive(o.Guests[0].Target, want)
	delete(r.storage, "hf-keyfile")
	if o := r.perl(map[string]any{"config": "store:backup/" + o.Guests[0].Target}); !strings.Contains(o.Error, "key") {
		t.Errorf("without the key: %+v", o)
	}
}

// The password goes to a file of root's and nowhere else.
func TestPasswordIsKeptForRoot(t *testing.T) {
	need(t)
	r := newRig(t)
	hook := func(name string, more ...any) outcome {
		return r.perl(map[string]any{"plugin": append([]any{name, "store", r.scfg()}, more...)})
	}
	file := r.path("secrets", "store.pw")
	if o := hook("on_add_hook", "password", `it's "secret"`); o.Error != "" {
		t.Fatal(o.Error)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "it's \"secret\"\n" {
		t.Errorf("%q, %v", b, err)
	}
	if o := hook("on_update_hook"); o.Error != "" {
		t.Error(o.Error)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error("an update of something else removed it")
	}
	if o := hook("on_delete_hook"); o.Error != "" {
		t.Error(o.Error)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("it outlives its storage")
	}
	r.storage["hf-directory"] = "/plain"
	if o := hook("on_add_hook"); !strings.Contains(o.Error, "exactly one of") {
		t.Errorf("both places: %q", o.Error)
	}
}

func TestHostsOfOtherVersionsAreGivenTheirs(t *testing.T) {
	need(t)
	r := newRig(t)
	for _, host := range []string{"9", "11", "15", "20"} {
		t.Setenv("TEST_APIVER", host)
		o := r.perl(map[string]any{"plugin": []any{"api"}})
		want := host
		if host == "20" {
			want = "15"
		}
		if o.Error != "" || strings.Trim(string(o.Plugin[0]), `"`) != want {
			t.Errorf("host %s: %s %s", host, o.Plugin, o.Error)
		}
	}
}

func TestStatusAndNamesOfVolumes(t *testing.T) {
	need(t)
	r := newRig(t)
	o := r.perl(map[string]any{"plugin": []any{"status", "store", r.scfg(), map[string]any{}}})
	if o.Error != "" || len(o.Plugin) != 4 || string(o.Plugin[3]) != "1" || string(o.Plugin[0]) == "0" {
		t.Errorf("status: %s %s", o.Plugin, o.Error)
	}
	for name, want := range map[string]string{
		"backup/vm/100/2026-01-02T03:00:00Z": `["backup","vm/100/2026-01-02T03:00:00Z","100",null,null,null,"pbs-vm"]`,
		"backup/7/lxc-1767322800":            `["backup","7/lxc-1767322800","7",null,null,null,"raw"]`,
	} {
		o := r.perl(map[string]any{"plugin": []any{"parse_volname", name}})
		if got, _ := json.Marshal(o.Plugin); string(got) != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	for _, name := range []string{"backup/vm/../x", "backup/vm/100/2026-01-02T03:00:00Z\n", "vm/100/2026-01-02T03:00:00Z", "backup/host/a/2026-01-02T03:00:00Z"} {
		if o := r.perl(map[string]any{"plugin": []any{"parse_volname", name}}); !strings.Contains(o.Error, "unable to parse") {
			t.Errorf("%q: %+v", name, o)
		}
	}
}

func TestPruningKeepsWhatIsToStay(t *testing.T) {
	need(t)
	r := newRig(t)
	r.machine(100, sizes)
	for n := range 4 {
		o := r.perl(job(start+1000*n, map[string]any{"keep": map[string]int{"keep-last": 2}, "protect": n == 0}, guest(100)))
		if o.Error != "" || o.Guests[0].Error != "" {
			t.Fatalf("%+v", o)
		}
	}
	list := r.list(100)
	if len(list) != 3 || list[0]["protected"] != 1.0 {
		t.Errorf("list: %v", list)
	}
	free := func(n int) outcome {
		return r.perl(map[string]any{"plugin": []any{"free_image", "store", r.scfg(), strings.TrimPrefix(list[n]["volid"].(string), "store:"), 0, "pbs-vm"}})
	}
	if o := free(0); !strings.Contains(o.Error, "protected") {
		t.Errorf("removing a protected backup: %q", o.Error)
	}
	if o := free(1); o.Error != "" {
		t.Errorf("removing a backup: %q", o.Error)
	}
	if list := r.list(100); len(list) != 2 {
		t.Errorf("list: %v", list)
	}
}
