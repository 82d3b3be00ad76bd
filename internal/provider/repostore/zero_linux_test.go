package repostore_test

import "testing"

// What the guest zeroes while it is backed up was data at the point.
func TestZeroesOfTheGuestDuringABackupAreNotOfThePoint(t *testing.T) {
	s := newSite(t)
	for range 2 { // new, then reuse
		s.Write(t, "scsi0", 0, 16*mib, 0x21)
		s.Write(t, "efidisk0", 0, 8*mib, 0x22)
		name, disks := s.begin(t)
		want := s.contents(t)
		s.VM.Zero(t, "scsi0", 0, 12*mib)
		s.VM.Zero(t, "efidisk0", 0, 8*mib)
		if err := s.backupVM(t.Context(), name, disks); err != nil {
			t.Fatal(err)
		}
		s.Teardown(t, true)
		s.cleanup(t, true)
		s.compare(t, name, want)
	}
}
