package idmap_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/idmap"
)

// configs are configurations and their maps in the form of a command line, "!"
// and a word of the error for what has none.
var configs = []struct{ name, text, want string }{
	{"LXC", "lxc.include = /usr/share/lxc/config/debian.common.conf\nlxc.idmap = u 0 100000 65536\nlxc.idmap = g 0 100000 65536\nlxc.uts.name = web\n", "b:0:100000:65536"},
	{"LXC before 2.1", "lxc.utsname = web\nlxc.id_map = u 0 165536 65536\nlxc.id_map = g 0 165536 65536\n", "b:0:165536:65536"},
	{"LXC, both kinds in one line", "lxc.idmap = b 0 100000 65536", "b:0:100000:65536"},
	{"LXC, tabs, comments and no last newline", "# lxc.idmap = u 0 5 5\n\tlxc.idmap\t=\tu\t0\t100000 10\r\n  lxc.idmap=g 0 200000 10", "u:0:100000:10 g:0:200000:10"},
	{"LXC, an empty value drops what came before", "lxc.idmap = b 0 7 7\nlxc.idmap =\nlxc.idmap = b 0 100000 10", "b:0:100000:10"},
	{"LXC, privileged", "lxc.rootfs.path = dir:/var/lib/lxc/a/rootfs\n", ""},
	{"LXC, users alone", "lxc.idmap = u 0 100000 65536\n", "!nothing of groups"},
	{"LXC, a range with two numbers", "lxc.idmap = u 0 100000\n", "!line 1"},
	{"Proxmox VE, unprivileged", "arch: amd64\nostype: debian\nrootfs: local:101/vm-101-disk-0.raw,size=8G\nunprivileged: 1\n", "b:0:100000:65536"},
	{"Proxmox VE, privileged", "arch: amd64\nostype: debian\nrootfs: local-zfs:subvol-100-disk-0,size=8G\n", ""},
	{"Proxmox VE, own map", "ostype: ubuntu\nunprivileged: 1\nlxc.idmap: u 0 100000 65536\nlxc.idmap: g 0 100000 108\nlxc.idmap: g 108 993 1\nlxc.idmap: g 109 100109 65427\n", "u:0:100000:65536 g:0:100000:108 g:108:993:1 g:109:100109:65427"},
	{"Proxmox VE, the map of a snapshot does not count", "#description: a=b\nostype: debian\nunprivileged: 0\n\n[before]\nunprivileged: 1\nlxc.idmap: b 0 7 7\n", ""},
	{"Incus, what is on disk counts", `architecture: x86_64
config:
  image.os: Debian
  volatile.idmap.base: "0"
  volatile.idmap.current: '[{"Isuid":true,"Isgid":true,"Hostid":1000000,"Nsid":0,"Maprange":1000000000}]'
  volatile.idmap.next: '[{"Isuid":true,"Isgid":true,"Hostid":7,"Nsid":0,"Maprange":7}]'
  volatile.last_state.idmap: '[]'
devices: {}
`, ""},
	{"Incus, what runs counts where nothing else is known", `config:
  volatile.idmap.current: '[{"Isuid":true,"Isgid":false,"Hostid":1000000,"Nsid":0,"Maprange":1000000000},{"Isuid":false,"Isgid":true,"Hostid":1000000,"Nsid":0,"Maprange":1000000000}]'
`, "b:0:1000000:1000000000"},
	{"LXD, backup.yaml with a folded line", `container:
  architecture: x86_64
  config:
    volatile.last_state.idmap: '[{"Isuid":true,"Isgid":false,"Hostid":100000,"Nsid":0,"Maprange":65536},
      {"Isuid":false,"Isgid":true,"Hostid":100000,"Nsid":0,"Maprange":65536}]'
snapshots:
- name: c/snap0
  config:
    volatile.last_state.idmap: '[{"Isuid":true,"Isgid":true,"Hostid":7,"Nsid":0,"Maprange":7}]'
`, "b:0:100000:65536"},
	{"Incus, JSON of a query", `{"architecture":"x86_64","config":{"volatile.last_state.idmap":"[{\"Isuid\":true,\"Isgid\":false,\"Hostid\":231072,\"Nsid\":0,\"Maprange\":65536},{\"Isuid\":false,\"Isgid\":true,\"Hostid\":231072,\"Nsid\":0,\"Maprange\":65536}]"}}`, "b:0:231072:65536"},
	{"Incus, JSON with its envelope", `{"type":"sync","metadata":{"config":{"volatile.last_state.idmap":"[{\"Isuid\":true,\"Isgid\":true,\"Hostid\":5,\"Nsid\":0,\"Maprange\":5}]"}}}`, "b:0:5:5"},
	{"Incus, never started", "config:\n  image.os: Debian\n", "!ever started"},
	{"Incus, a list that is none", "config:\n  volatile.idmap.current: '{'\n", "!volatile.idmap.current"},
	{"Incus, ids past 32 bits", `{"config":{"volatile.idmap.current":"[{\"Isuid\":true,\"Isgid\":true,\"Hostid\":4294967296,\"Nsid\":0,\"Maprange\":1}]"}}`, "!volatile.idmap.current"},
	{"broken JSON", `{"config":`, "!not a valid"},
	{"a password file", "root:x:0:0:root:/root:/bin/bash\n", "!no configuration"},
	{"nothing", "", "!no configuration"},
}

func TestEveryConfigurationGivesItsMap(t *testing.T) {
	for _, tc := range configs {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config")
			if err := os.WriteFile(path, []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			m, err := idmap.Load(path)
			if word, bad := strings.CutPrefix(tc.want, "!"); bad {
				if !errors.Is(err, idmap.ErrInvalid) || !strings.Contains(err.Error(), word) {
					t.Fatalf("map %v, err = %v, want ErrInvalid with %q", m, err, word)
				}
				return
			}
			if err != nil || m.String() != tc.want {
				t.Fatalf("map %q, err = %v, want %q", m, err, tc.want)
			}
		})
	}
}

// The files are those of one container, which LXD 5.0.2 wrote.
func TestDumpsOfLXDGiveTheMapOfTheFilesOnDisk(t *testing.T) {
	for _, name := range []string{"lxd-5.0.2-show.yaml", "lxd-5.0.2-query.json", "lxd-5.0.2-backup.yaml"} {
		m, err := idmap.Load(filepath.Join("testdata", name))
		if want := "b:0:100000:65536"; err != nil || m.String() != want {
			t.Errorf("%s: map %q, err = %v, want %q", name, m, err, want)
		}
	}
}

func TestTheMapOfAProcessIsReadFromItsDirectoryOrEitherFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("uid_map", "         0     100000       1000\n      1000       1000          1\n")
	write("gid_map", "         0     100000      65536\n")
	for _, path := range []string{dir, filepath.Join(dir, "uid_map"), filepath.Join(dir, "gid_map")} {
		m, err := idmap.Load(path)
		if want := "u:0:100000:1000 u:1000:1000:1 g:0:100000:65536"; err != nil || m.String() != want {
			t.Errorf("%s: map %q, err = %v, want %q", path, m, err, want)
		}
	}
	write("uid_map", "")
	write("gid_map", "")
	if _, err := idmap.Load(dir); !errors.Is(err, idmap.ErrInvalid) {
		t.Errorf("a namespace without ids: err = %v, want ErrInvalid", err)
	}
	if _, err := idmap.Load(filepath.Join(dir, "gone")); !errors.Is(err, os.ErrNotExist) || errors.Is(err, idmap.ErrInvalid) {
		t.Errorf("a missing file: err = %v, want ErrNotExist alone", err)
	}
}

func TestTooLongFilesAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 9<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := idmap.Load(path); !errors.Is(err, idmap.ErrInvalid) || !strings.Contains(err.Error(), "longer") {
		t.Errorf("err = %v, want ErrInvalid that says longer", err)
	}
}

// survives checks that a map is the same after a trip through its text.
func survives(t *testing.T, m *idmap.Map, err error) {
	if err != nil {
		if !errors.Is(err, idmap.ErrInvalid) || m != nil {
			t.Fatalf("map %v, err = %v, want ErrInvalid and no map", m, err)
		}
		return
	}
	again, err := idmap.ParseSpecs(strings.Fields(m.String())...)
	if err != nil {
		t.Fatalf("%q: %v", m, err)
	}
	if !slices.Equal(again.Users().Ranges(), m.Users().Ranges()) || !slices.Equal(again.Groups().Ranges(), m.Groups().Ranges()) {
		t.Fatalf("%q became %q", m, again)
	}
	for _, r := range m.Users().Ranges() {
		if back, ok := m.Users().ToHost(r.Container); back != r.Host || !ok {
			t.Fatalf("%q: ToHost(%d) = %d, %v", m, r.Container, back, ok)
		}
	}
}

func FuzzParseSpecs(f *testing.F) {
	f.Add("u:0:100000:65536 g:0:100000:65536")
	f.Add("b:0:0:4294967295")
	f.Fuzz(func(t *testing.T, s string) {
		m, err := idmap.ParseSpecs(strings.Fields(s)...)
		survives(t, m, err)
	})
}

func FuzzParseProc(f *testing.F) {
	f.Add([]byte("         0     100000      65536\n"), []byte("0 1 2\n3 4 5\n"))
	f.Fuzz(func(t *testing.T, u, g []byte) {
		m, err := idmap.ParseProc(u, g)
		survives(t, m, err)
	})
}

func FuzzParseLXC(f *testing.F) {
	for _, c := range configs {
		f.Add([]byte(c.text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := idmap.ParseLXC(b)
		survives(t, m, err)
	})
}

func FuzzParseIncus(f *testing.F) {
	for _, c := range configs {
		f.Add([]byte(c.text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := idmap.ParseIncus(b)
		survives(t, m, err)
	})
}
