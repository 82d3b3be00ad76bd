package qemu_test

import (
	"testing"

	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/guest/qemu"
)

func TestOnlyDirtyChunksAreReadTheSecondTime(t *testing.T) {
	eachMethod(t, func(t *testing.T, m qemu.Method) {
		s := newSite(t)
		s.opts.Method = m
		s.write(t, "root", 0, 3*mib, 0x11)
		s.write(t, "data", mib, mib, 0x22)
		s.write(t, "data", 5*mib, 512, 0x23)
		wantModes(t, s.backup(t), modes(guest.New, guest.New))

		s.write(t, "root", 2*mib+4096, 8192, 0x33)
		r := s.backup(t)
		wantModes(t, r, modes(guest.Reuse, guest.Reuse))
		if diskReads(r) != chunk {
			t.Errorf("read %d bytes, want the one dirty chunk", diskReads(r))
		}
		if r := s.backup(t); diskReads(r) != 0 {
			t.Errorf("read %d bytes of an unchanged guest", diskReads(r))
		}
	})
}

func TestGuestWritesOnWhileItIsRead(t *testing.T) {
	eachMethod(t, func(t *testing.T, m qemu.Method) {
		s := newSite(t)
		s.opts.Method = m
		s.write(t, "root", 0, 8*mib, 0x11)
		s.write(t, "data", 0, 5*mib, 0x12)
		overwrite := func(pattern byte) func(*guest.Job) {
			return func(j *guest.Job) {
				j.Taken = func(guest.Point) {
					s.write(t, "root", mib, 5*mib, pattern)
					s.zero(t, "data", 0, 3*mib)
					s.write(t, "data", 4*mib+1024, 512, pattern)
				}
			}
		}
		s.backup(t, overwrite(0x44))
		wantModes(t, s.backup(t, overwrite(0x55)), modes(guest.Reuse, guest.Reuse))
		r := s.backup(t)
		wantModes(t, r, modes(guest.Reuse, guest.Reuse))
	})
}

func TestRangeThatBecameZeroIsStoredAsZeros(t *testing.T) {
	eachMethod(t, func(t *testing.T, m qemu.Method) {
		s := newSite(t)
		s.opts.Method = m
		s.write(t, "root", 0, 8*mib, 0x11)
		s.write(t, "data", 0, 5*mib, 0x12)
		s.backup(t)
		s.zero(t, "root", 2*mib, 2*mib)
		s.zero(t, "data", mib, 65536)
		wantModes(t, s.backup(t), modes(guest.Reuse, guest.Reuse)) // compares
	})
}
