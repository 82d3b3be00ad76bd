package volume

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/volumeheader"
	"github.com/holdfast-backup/holdfast/internal/kernel/dm"
	"golang.org/x/sys/unix"
)

// fakeMapper is a list of devices.
type fakeMapper map[string]fakeDevice

type fakeDevice struct {
	uuid  string
	minor uint32
	table []dm.Target
	err   error // of a look at the table

	status string // of a snapshot
}

func (f fakeMapper) List() (list []dm.Named, err error) {
	for name, d := range f {
		list = append(list, dm.Named{Name: name, Device: unix.Mkdev(253, d.minor)})
	}
	return list, nil
}

func (f fakeMapper) Info(name string) (dm.Info, error) {
	d, ok := f[name]
	if !ok {
		return dm.Info{}, dm.ErrNotFound
	}
	return dm.Info{Name: name, UUID: d.uuid, Device: unix.Mkdev(253, d.minor), Active: true}, nil
}

func (f fakeMapper) Table(name string) ([]dm.Target, error) { return f[name].table, f[name].err }

func (f fakeMapper) Status(name string) ([]dm.Target, error) {
	return []dm.Target{{Type: f[name].table[0].Type, Params: cmp.Or(f[name].status, "16/8192 16")}}, nil
}

func (f fakeMapper) Create(context.Context, string, string, []dm.Target, bool) (dm.Info, error) {
	return dm.Info{}, errors.New("only looked at")
}

func (f fakeMapper) Remove(context.Context, string, time.Duration) error {
	return errors.New("only looked at")
}

func oneTarget(kind, params string) []dm.Target {
	return []dm.Target{{Length: 8, Type: kind, Params: params}}
}

// Device 8:1 is a volume of version 1, 8:2 has none, 8:3 has its payload at 1 MiB,
// and 8:4 cannot be read.
func fakeLister(m fakeMapper) *lister {
	far := volumeheader.Full(volumeheader.Record{State: volumeheader.Used, Size: 1, Start: Aligned, Digest: image2})
	return &lister{
		m,
		func(dev uint64) (string, error) { return "/dev/" + devText(dev), nil },
		func(path string, dev uint64) (Info, error) {
			switch path {
			case "/dev/8:1":
				return Info{Device: path, Size: 9 * 512, Header: volumeheader.Short(image1)}, nil
			case "/dev/8:3":
				return Info{Device: path, Size: Aligned + 8*512, Header: far}, nil
			case "/dev/8:4":
				return Info{}, errors.New("input/output error")
			}
			return Info{}, volumeheader.ErrNone
		},
	}
}

func TestListHasVolumesAndNothingElse(t *testing.T) {
	ours := func() string { return newUUID(someday()) }
	m := fakeMapper{
		"virtlet-dm-first":          {table: oneTarget(linear, "8:1 1")}, // as Virtlet makes them
		"virtlet-dm-far":            {uuid: ours(), table: oneTarget(linear, "8:3 2048")},
		"virtlet-dm-broken":         {uuid: ours(), table: oneTarget(linear, "8:4 1")},
		"virtlet-dm-unreadable":     {table: oneTarget(linear, "8:4 1")},
		"virtlet-dm-thrown":         {uuid: ours(), minor: 7, table: oneTarget(snapshot, "253:8 7:0 N 8")},
		"virtlet-dm-thrown-base":    {uuid: ours(), minor: 8, table: oneTarget(linear, "8:1 1")},
		"virtlet-dm-full":           {uuid: ours(), minor: 11, table: oneTarget(snapshot, "253:8 7:0 N 8"), status: "Invalid"},
		"virtlet-dm-left-base":      {uuid: ours(), minor: 9, table: oneTarget(linear, "8:1 1")},
		"virtlet-dm-bottomless":     {uuid: ours(), table: oneTarget(snapshot, "253:99 7:0 N 8")},
		"virtlet-dm-no-header":      {table: oneTarget(linear, "8:2 1")},
		"virtlet-dm-elsewhere":      {table: oneTarget(linear, "8:1 2")},
		"virtlet-dm-snapshot":       {table: oneTarget(snapshot, "8:1 7:0 P 8")},
		"virtlet-dm-crypt":          {table: oneTarget("crypt", "aes-xts-plain64 0 0 8:1 1")},
		"virtlet-dm-two":            {table: append(oneTarget(linear, "8:1 1"), oneTarget(linear, "8:1 1")...)},
		"virtlet-dm-empty":          {},
		"virtlet-dm-no-params":      {table: oneTarget(linear, "")},
		"virtlet-dm-words":          {table: oneTarget(linear, "/dev/sda one")},
		"virtlet-dm-more-params":    {table: oneTarget(linear, "8:1 1 1")},
		"virtlet-dm-negative":       {table: oneTarget(linear, "8:1 -1")},
		"virtlet-dm-large":          {table: []dm.Target{{Length: 1 << 63, Type: linear, Params: "8:1 1"}}},
		"virtlet-dm-gone":           {err: dm.ErrNotFound},
		"vg-lv":                     {table: oneTarget(linear, "8:1 1")},
		"other-prefix-virtlet-dm-x": {table: oneTarget(linear, "8:1 1")},
	}
	list, notices, err := fakeLister(m).list(DefaultPrefix)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range list {
		got = append(got, strings.TrimPrefix(v.Name, DefaultPrefix))
	}
	if want := []string{"bottomless", "broken", "far", "first", "full", "left-base", "thrown"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if len(notices) != 1 || !strings.Contains(notices[0].Error(), "virtlet-dm-unreadable is left out") {
		t.Errorf("%v", notices)
	}
	for _, v := range list {
		switch v.Name {
		case "virtlet-dm-first":
			want := Mapping{Name: v.Name, Node: "/dev/mapper/virtlet-dm-first", Size: 8 * 512, Device: "/dev/8:1", Header: volumeheader.Short(image1)}
			if v != want {
				t.Errorf("%+v", v)
			}
		case "virtlet-dm-far":
			if !v.Since.Equal(someday()) || v.Header.Digest() != image2 {
				t.Errorf("%+v", v)
			}
		case "virtlet-dm-thrown":
			if !v.ThrowAway || v.Device != "/dev/8:1" {
				t.Errorf("%+v", v)
			}
		case "virtlet-dm-broken", "virtlet-dm-bottomless", "virtlet-dm-full":
			if v.Trouble == nil || v.Device != "" {
				t.Errorf("%+v", v)
			}
		}
	}
	if list, _, _ = fakeLister(m).list("vg-"); len(list) != 1 || list[0].Name != "vg-lv" {
		t.Errorf("another prefix: %+v", list)
	}
}

func TestNodeIsFoundWithAndWithoutDEVNAME(t *testing.T) {
	sys := t.TempDir()
	for dev, uevent := range map[string]string{
		"7:0": "MAJOR=7\nMINOR=0\nDEVNAME=loop0\nDEVTYPE=disk\n",
		"7:1": "MAJOR=7\nMINOR=1\n",
		"7:2": "DEVNAME=cciss/c0d0\n",
		"7:3": "DEVNAME=../etc/passwd\n",
		"7:4": "DEVNAME=\n",
		"7:5": "",
	} {
		name := map[string]string{"7:0": "loop0", "7:2": "cciss!c0d0"}[dev]
		if name == "" {
			name = "real!" + strings.TrimPrefix(dev, "7:")
		}
		dir := filepath.Join(sys, "devices", name)
		err := errors.Join(os.MkdirAll(dir, 0o755), os.MkdirAll(filepath.Join(sys, "dev/block"), 0o755),
			os.WriteFile(filepath.Join(dir, "uevent"), []byte(uevent), 0o600), os.Symlink("../../devices/"+name, filepath.Join(sys, "dev/block", dev)))
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(sys, "devices/real!5/uevent")); err != nil {
		t.Fatal(err)
	}
	for minor, want := range []string{"/dev/loop0", "/dev/real/1", "/dev/cciss/c0d0", "/dev/real/3", "/dev/real/4", "/dev/real/5"} {
		if got, err := nodeOf(sys, unix.Mkdev(7, uint32(minor))); err != nil || got != want {
			t.Errorf("7:%d: %s, %v; want %s", minor, got, err, want)
		}
	}
	if got, err := nodeOf(sys, unix.Mkdev(9, 9)); err == nil {
		t.Errorf("a device that is not there is %s", got)
	}
}

func TestNamesWithoutThePrefixAreRefused(t *testing.T) {
	for _, name := range []string{"", "x", DefaultPrefix, "vg-root", "Virtlet-dm-x"} {
		err := CheckName(name, "")
		if p, ok := errors.AsType[*PrefixError](err); !ok || p.Prefix != DefaultPrefix {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{DefaultPrefix + "a/b", DefaultPrefix + strings.Repeat("x", 120)} {
		if err := CheckName(name, ""); err == nil {
			t.Errorf("%q", name)
		}
	}
	if err := errors.Join(CheckName(DefaultPrefix+"x", ""), CheckName("pod-x", "pod-")); err != nil {
		t.Error(err)
	}
}

func TestUUIDTellsWhenAMappingWasMade(t *testing.T) {
	a, b := newUUID(someday()), newUUID(someday())
	if a == b || len(a) != len("HOLDFAST-")+32 {
		t.Errorf("%s, %s", a, b)
	}
	if since, ok := parseUUID(a); !ok || !since.Equal(someday()) {
		t.Errorf("%v, %v", since, ok)
	}
	for _, s := range []string{"", "HOLDFAST-", a[:len(a)-1], a + "0", "CRYPT" + a[8:], a[:40] + "g"} {
		if _, ok := parseUUID(s); ok {
			t.Errorf("%q", s)
		}
	}
}
