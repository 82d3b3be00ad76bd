package appliance

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// plant makes an unpacked or installed kernel.
func plant(t *testing.T, image, modules string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(image), 0o755), os.MkdirAll(filepath.Join(modules, "kernel"), 0o755),
		os.WriteFile(image, []byte("kernel"), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func TestKernelsAreFoundInOrder(t *testing.T) {
	dir := t.TempDir()
	s := KernelSearch{Caches: []string{dir + "/cache"}, Boot: dir + "/boot", Lib: dir + "/lib"}
	if _, err := FindKernel(s); !errors.Is(err, ErrNoKernel) || !strings.Contains(err.Error(), "linux-image-cloud-amd64") {
		t.Fatalf("err = %v", err)
	}
	find := func(want string) {
		t.Helper()
		if k, err := FindKernel(s); err != nil || k.Version != want {
			t.Fatalf("found %+v, %v, want %s", k, err, want)
		}
	}
	plant(t, dir+"/boot/vmlinuz-6.1.0-9-amd64", dir+"/lib/6.1.0-9-amd64")
	plant(t, dir+"/boot/vmlinuz-6.1.0-56-amd64", dir+"/lib/6.1.0-56-amd64")
	find("6.1.0-56-amd64")
	plant(t, dir+"/cache/6.1.0-50-cloud-amd64/vmlinuz", dir+"/cache/6.1.0-50-cloud-amd64/modules")
	find("6.1.0-50-cloud-amd64")
	s.Flavour = "amd64"
	find("6.1.0-56-amd64")
	s.Path = dir + "/boot/vmlinuz-6.1.0-9-amd64"
	find("6.1.0-9-amd64")
	plant(t, dir+"/cache/6.9.0-1-cloud-arm64/vmlinuz", dir+"/cache/6.9.0-1-cloud-arm64/modules")
	if err := os.WriteFile(dir+"/cache/6.9.0-1-cloud-arm64/vmlinuz", append(make([]byte, 0x38), "ARM\x64"...), 0o644); err != nil {
		t.Fatal(err)
	}
	s.Path, s.Flavour, s.Arch = "", "", "amd64"
	find("6.1.0-50-cloud-amd64") // the newer one is for another machine
	s.Arch = "arm64"
	find("6.9.0-1-cloud-arm64")
	s.Arch = ""
	s.Path = dir + "/boot/none"
	if _, err := FindKernel(s); !errors.Is(err, ErrNoKernel) {
		t.Fatalf("err = %v", err)
	}
}

func TestFileNamesReachQEMUUnchanged(t *testing.T) {
	name := filepath.Join(t.TempDir(), `a,b"c disk.img`)
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := Config{Kernel: Kernel{Image: "k"}, Init: "i", Drives: []Drive{
		{Path: name, ReadOnly: true}, {Path: "nbd+unix:///disk?socket=/run/a,b"},
	}}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	args, err := c.arguments(AccelTCG)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(args, "\n")
	for _, want := range []string{`a,b\"c disk.img`, `"export":"disk"`, `"path":"/run/a,b"`, `"serial":"hf001"`, `"read-only":true`} {
		if !strings.Contains(all, want) {
			t.Errorf("no %s in\n%s", want, all)
		}
	}
	if slices.Contains(args, "-netdev") {
		t.Error("the machine has a network")
	}
}

func TestEachKindOfMachineIsDescribedToItsQEMU(t *testing.T) {
	for arch, want := range map[string]string{"amd64": "console=ttyS0", "arm64": "console=ttyAMA0"} {
		args, err := Config{Arch: arch, Kernel: Kernel{Image: "k"}, Init: "i"}.arguments(AccelTCG)
		if err != nil || !strings.Contains(strings.Join(args, " "), want) {
			t.Errorf("%s: %v, %q", arch, err, args)
		}
	}
	if _, err := (Config{Arch: "s390x"}).arguments(AccelTCG); err == nil || !strings.Contains(err.Error(), "s390x") {
		t.Errorf("%v", err)
	}
	if err := HaveQEMU("amd64", "no-such-qemu"); !errors.Is(err, ErrNoQEMU) || !strings.Contains(err.Error(), "qemu-system-x86") {
		t.Errorf("%v", err)
	}
}

func TestConfigRefuses(t *testing.T) {
	good := Config{Kernel: Kernel{Image: "k"}, Init: "i"}
	for name, spoil := range map[string]func(*Config){
		"no kernel":       func(c *Config) { c.Kernel.Image = "" },
		"no program":      func(c *Config) { c.Init = "" },
		"too many drives": func(c *Config) { c.Drives = make([]Drive, MaxDrives+1) },
		"a long serial":   func(c *Config) { c.Drives = []Drive{{Serial: strings.Repeat("x", 21)}} },
	} {
		t.Run(name, func(t *testing.T) {
			c := good
			spoil(&c)
			if _, err := c.withDefaults(); err == nil {
				t.Fatal("taken")
			}
		})
	}
}

func TestConsoleKeepsItsEnd(t *testing.T) {
	r := newRing(100, "ready")
	for range 1000 {
		_, _ = r.Write([]byte("line\nrea"))
	}
	_, _ = r.Write([]byte("dy\n\x1b[2Jlast\n"))
	select {
	case <-r.seen:
	default:
		t.Error("the mark came in two pieces and was not seen")
	}
	if got := r.tail(1); got != "[2Jlast" {
		t.Errorf("tail %q", got)
	}
	if n := len(r.String()); n > 100 {
		t.Errorf("%d bytes kept", n)
	}
}

func TestAMachineThatIsCalledThroughVsockHasTheDevice(t *testing.T) {
	c := Config{Kernel: Kernel{Image: "k"}, Init: "i", call: &call{cid: 70000, token: "t"}, Drives: []Drive{{Export: "x", Dial: func() (*os.File, error) { return nil, errors.New("not called") }}}}
	args, err := c.arguments(AccelTCG)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(args, "\n")
	for _, want := range []string{"vhost-vsock-pci,guest-cid=70000,vhostfd=6", `"str":"7"`} {
		if !strings.Contains(all, want) {
			t.Errorf("no %s in\n%s", want, all)
		}
	}
	if strings.Contains(all, "\nt\n") {
		t.Error("the token is in the arguments")
	}
}
