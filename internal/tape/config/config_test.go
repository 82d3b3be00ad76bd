package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/property"
)

const (
	tapeCfg = `lto: drive1
	changer lib1
	changer-drivenum 1
	path /dev/tape/by-id/scsi-HUJ5485716-sg

changer: lib1
	eject-before-unload true
	export-slots 15,16
	path /dev/tape/by-id/scsi-CC2C52

virtual: vtape
	max-size 268435456
	path /srv/vtape

lto: desk
	path /dev/sg7
`
	poolCfg = `pool: daily
	allocation mon..fri 02:30
	comment the big one
	encrypt 0e:ab:d4:46:0b:6e:b9:ca:34:50:23:de:e2:b7:78:c7:90:e5:4a:16:83:b9:65:9c:0a:57:ae:19:90:90:15:9b
	retention 10 days
	template %Y-%m %id%

pool: ab
`
	jobCfg = `backup: nightly
	comment all machines
	drive drive1
	eject-media true
	export-media-set true
	group-filter type:vm
	group-filter exclude:group:vm/9
	latest-only true
	max-depth 2
	notification-mode notification-system
	ns a/b
	pool daily
	schedule daily
	store store1
	worker-threads 4

backup: byhand
	drive vtape
	pool ab
	store store2
`
)

func directory(t *testing.T, files map[string]string) Config {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return New(confdir.New(dir))
}

func full(t *testing.T) Config {
	return directory(t, map[string]string{"tape.cfg": tapeCfg, "media-pool.cfg": poolCfg, "tape-job.cfg": jobCfg})
}

func TestFilesOfPBSAreRead(t *testing.T) {
	c := full(t)
	drives, err := c.Drives()
	want := []DriveConfig{
		{Name: "drive1", Path: "/dev/tape/by-id/scsi-HUJ5485716-sg", Changer: "lib1", Number: 1, MaxSize: maxSize},
		{Name: "vtape", Virtual: true, Path: "/srv/vtape", MaxSize: 256 << 20},
		{Name: "desk", Path: "/dev/sg7", MaxSize: maxSize},
	}
	if err != nil || !slices.Equal(drives, want) {
		t.Errorf("drives %+v, %v", drives, err)
	}
	if a, b, c := want[0].Online(), want[1].Online(), want[2].Online(); a != "lib1" || b != "vtape" || c != "" {
		t.Errorf("online in %q, %q and %q", a, b, c)
	}
	ch, err := c.Changer("lib1")
	if err != nil || !ch.EjectFirst || !slices.Equal(ch.ExportSlots, []int{15, 16}) || ch.Path != "/dev/tape/by-id/scsi-CC2C52" {
		t.Errorf("changer %+v, %v", ch, err)
	}
	pools, err := c.Pools()
	if err != nil || len(pools) != 2 || pools[0].Template != "%Y-%m %id%" || pools[0].Key.IsZero() || !pools[1].Key.IsZero() {
		t.Errorf("pools %+v, %v", pools, err)
	}
	jobs, err := c.Jobs()
	if err != nil || len(jobs) != 2 {
		t.Fatalf("jobs %+v, %v", jobs, err)
	}
	j := jobs[0]
	if j.Store != "store1" || j.Pool != "daily" || j.Drive != "drive1" || j.Schedule == nil || j.Namespace != "a/b" || j.Depth != 2 ||
		!j.LatestOnly || !j.Eject || !j.Export || j.Workers != 4 || j.NotificationMode != "notification-system" {
		t.Errorf("job %+v", j)
	}
	vm := func(id string) names.Group { return names.Group{Type: names.VM, ID: id} }
	if !j.Filters.Match(vm("8")) || j.Filters.Match(vm("9")) {
		t.Error("the filters of the job let the wrong groups pass")
	}
	if j := jobs[1]; j.Schedule != nil || j.Depth != AllDepths || j.Workers != 1 || j.LatestOnly || j.Eject {
		t.Errorf("job %+v", j)
	}
}

func TestFilesThatPBSWroteStayAsTheyAre(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/pbs-4.2.1")); err != nil {
		t.Fatal(err)
	}
	c := New(confdir.New(dir))
	j, err := c.Job("nightly")
	if err != nil || j.Store != "store2" || j.Namespace != "ns1" || j.Depth != 2 || !j.LatestOnly || !j.Eject || j.Export || j.Workers != 2 || len(j.Filters) != 1 {
		t.Errorf("%+v, %v", j, err)
	}
	pools, err := c.Pools()
	if err != nil || len(pools) != 3 || pools[1].Template != "%F-%id%" || pools[2].Key.IsZero() {
		t.Errorf("%+v, %v", pools, err)
	}
	for _, tc := range []struct {
		k    Kind
		file string
		v    property.Values
	}{
		{Job, "tape-job.cfg", property.Values{"store": {"store1"}, "pool": {"daily"}, "drive": {"drive1"}}},
		{Pool, "media-pool.cfg", property.Values{}},
	} {
		want, err := os.ReadFile(filepath.Join(dir, tc.file))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Create(t.Context(), tc.k, "new", tc.v); err != nil {
			t.Fatal(err)
		}
		if err := c.Remove(t.Context(), tc.k, "new", ""); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, tc.file)); err != nil || string(got) != string(want) {
			t.Errorf("%s: %v\n%s", tc.file, err, got)
		}
	}
}

func TestWhatIsMissingIsToldApartFromWhatIsWrong(t *testing.T) {
	c := full(t)
	_, drive := c.Drive("lib1")
	_, changer := c.Changer("drive1")
	_, pool := c.Pool("weekly")
	_, job := c.Job("x")
	for what, err := range map[string]error{"drive": drive, "changer": changer, "pool": pool, "job": job} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	wrong := directory(t, map[string]string{
		"tape.cfg":       "lto: drive1\n\tpath dev/sg0\n",
		"media-pool.cfg": "pool: daily\n\tretention soon\n",
		"tape-job.cfg":   "backup: job1\n\tstore store1\n\tpool daily\n",
	})
	_, drive = wrong.Drive("drive1")
	_, pool = wrong.Pool("daily")
	_, job = wrong.Job("job1")
	for key, err := range map[string]error{"path": drive, "retention": pool, "drive is missing": job} {
		if err == nil || errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v", key, err)
		}
	}
	empty := directory(t, nil)
	if d, err := empty.Drives(); err != nil || len(d) != 0 {
		t.Error(d, err)
	}
}

func TestSectionsAreWrittenAsPBSWritesThem(t *testing.T) {
	c := directory(t, nil)
	for _, add := range []struct {
		k    Kind
		name string
		v    property.Values
	}{
		{Changer, "lib1", property.Values{"path": {"/dev/tape/by-id/scsi-CC2C52"}, "export-slots": {"15,16"}, "eject-before-unload": {"true"}}},
		{LTO, "drive1", property.Values{"path": {"serial:HUJ5485716"}, "changer": {"lib1"}, "changer-drivenum": {"1"}}},
		{Pool, "daily", property.Values{"allocation": {"always"}}},
		{Job, "nightly", property.Values{"store": {"store1"}, "pool": {"daily"}, "drive": {"drive1"}, "group-filter": {"type:vm", "group:ct/7"}}},
	} {
		if err := c.Create(t.Context(), add.k, add.name, add.v); err != nil {
			t.Fatal(err)
		}
		if err := c.Create(t.Context(), add.k, add.name, add.v); !errors.Is(err, ErrExists) {
			t.Errorf("%s again: %v", add.name, err)
		}
	}
	for name, want := range map[string]string{
		"tape.cfg":       "changer: lib1\n\teject-before-unload true\n\texport-slots 15,16\n\tpath /dev/tape/by-id/scsi-CC2C52\n\nlto: drive1\n\tchanger lib1\n\tchanger-drivenum 1\n\tpath serial:HUJ5485716\n",
		"media-pool.cfg": "pool: daily\n\tallocation always\n",
		"tape-job.cfg":   "backup: nightly\n\tdrive drive1\n\tgroup-filter type:vm\n\tgroup-filter group:ct/7\n\tpool daily\n\tstore store1\n",
	} {
		if got, err := os.ReadFile(filepath.Join(c.dir.Path(), name)); err != nil || string(got) != want {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
	for _, busy := range []struct {
		k    Kind
		name string
	}{{Changer, "lib1"}, {LTO, "drive1"}, {Pool, "daily"}} {
		if err := c.Remove(t.Context(), busy.k, busy.name, ""); !errors.Is(err, ErrInUse) {
			t.Errorf("%s: %v", busy.name, err)
		}
	}
	if err := c.Update(t.Context(), Pool, "daily", "", property.Values{"retention": {"overwrite"}, "allocation": nil}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(c.dir.Path(), "media-pool.cfg")); err != nil || string(got) != "pool: daily\n\tretention overwrite\n" {
		t.Fatalf("%v\n%s", err, got)
	}
	for _, free := range []struct {
		k    Kind
		name string
	}{{Job, "nightly"}, {Pool, "daily"}, {LTO, "drive1"}, {Changer, "lib1"}} {
		if err := c.Remove(t.Context(), free.k, free.name, ""); err != nil {
			t.Error(err)
		}
		if err := c.Remove(t.Context(), free.k, free.name, ""); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s again: %v", free.name, err)
		}
	}
}

func TestSectionsThatMakeNoSenseAreRefused(t *testing.T) {
	c := full(t)
	before, err := os.ReadFile(filepath.Join(c.dir.Path(), "tape.cfg"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		k    Kind
		id   string
		v    property.Values
	}{
		{"a drive without path", LTO, "new", property.Values{}},
		{"a drive at the path of another", LTO, "new", property.Values{"path": {"/dev/sg7"}}},
		{"a drive of a changer that is not there", LTO, "new", property.Values{"path": {"/dev/sg8"}, "changer": {"lib9"}}},
		{"a drive with a number and no changer", LTO, "new", property.Values{"path": {"/dev/sg8"}, "changer-drivenum": {"1"}}},
		{"a drive named as a changer", LTO, "lib1", property.Values{"path": {"/dev/sg8"}}},
		{"a name that leaves its directory", LTO, "../x", property.Values{"path": {"/dev/sg8"}}},
		{"a short name", LTO, "ab", property.Values{"path": {"/dev/sg8"}}},
		{"a relative directory", Virtual, "new", property.Values{"path": {"tapes"}}},
		{"an empty serial", LTO, "new", property.Values{"path": {"serial:"}}},
		{"slot 0", Changer, "new", property.Values{"path": {"/dev/sg8"}, "export-slots": {"0,1"}}},
		{"an unknown property", LTO, "new", property.Values{"path": {"/dev/sg8"}, "speed": {"1"}}},
		{"a template of one letter", Pool, "new", property.Values{"template": {"x"}}},
		{"half a fingerprint", Pool, "new", property.Values{"encrypt": {"0e:ab"}}},
		{"a job without drive", Job, "new", property.Values{"store": {"store1"}, "pool": {"daily"}}},
		{"a filter that is none", Job, "new", property.Values{"store": {"store1"}, "pool": {"daily"}, "drive": {"drive1"}, "group-filter": {"vm"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := c.Create(t.Context(), tc.k, tc.id, tc.v); err == nil {
				t.Fatal("it was taken")
			}
		})
	}
	if after, err := os.ReadFile(filepath.Join(c.dir.Path(), "tape.cfg")); err != nil || string(after) != string(before) {
		t.Fatalf("the file changed: %v\n%s", err, after)
	}
}

func TestChangesOfAnOlderFileAreRefused(t *testing.T) {
	c := full(t)
	_, digest, err := c.Section(Pool, "daily")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Update(t.Context(), Pool, "daily", digest.String(), property.Values{"comment": {"x"}}); err != nil {
		t.Fatal(err)
	}
	if err := c.Update(t.Context(), Pool, "daily", digest.String(), property.Values{"comment": {"y"}}); !errors.Is(err, confdir.ErrChanged) {
		t.Fatal(err)
	}
}
