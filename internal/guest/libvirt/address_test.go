package libvirt_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-backup/holdfast/internal/guest/libvirt"
)

func TestAddressesAreThoseOfLibvirt(t *testing.T) {
	for s, want := range map[string]libvirt.Address{
		"qemu:///system":                  {Driver: "qemu:///system", Sockets: []string{"/run/libvirt/virtqemud-sock", "/run/libvirt/libvirt-sock"}},
		"qemu:///session":                 {Driver: "qemu:///session", Sockets: []string{"/run/user/7/libvirt/virtqemud-sock", "/run/user/7/libvirt/libvirt-sock"}},
		"qemu+unix:///system?socket=/x/y": {Driver: "qemu:///system", Sockets: []string{"/x/y"}},
	} {
		got, err := libvirt.ParseAddress(s, "/run/user/7")
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", s, err, diff)
		}
	}
}

func TestOtherAddressesAreRefused(t *testing.T) {
	for _, s := range []string{"", "qemu", "xen:///system", "qemu:///", "qemu://host/system", "qemu+ssh://host/system", "qemu+tcp:///system", "qemu:///system?mode=legacy", "qemu:///system#x", "%"} {
		if _, err := libvirt.ParseAddress(s, "/run/user/7"); !errors.Is(err, libvirt.ErrAddress) {
			t.Errorf("%q: err = %v", s, err)
		}
	}
	if _, err := libvirt.ParseAddress("qemu:///session", ""); !errors.Is(err, libvirt.ErrAddress) {
		t.Errorf("a session without a directory: err = %v", err)
	}
}

func FuzzAddress(f *testing.F) {
	f.Add("qemu+unix:///system?socket=/x")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := libvirt.ParseAddress(s, "/r")
		if err == nil && (len(a.Sockets) == 0 || a.Driver != "qemu:///system" && !a.Session()) {
			t.Fatalf("%q becomes %+v", s, a)
		}
	})
}
