package sg

import (
	"errors"
	"testing"
	"unsafe"

	"github.com/holdfast-backup/holdfast/internal/scsi"
)

func TestTheHeaderIsLaidOutAsTheKernelHasIt(t *testing.T) {
	var h header
	for name, at := range map[string][2]uintptr{
		"dxfer_len": {unsafe.Offsetof(h.DataLen), 12}, "dxferp": {unsafe.Offsetof(h.Data), 16}, "sbp": {unsafe.Offsetof(h.Sense), 32},
		"timeout": {unsafe.Offsetof(h.Timeout), 40}, "pack_id": {unsafe.Offsetof(h.PackID), 48}, "usr_ptr": {unsafe.Offsetof(h.UsrPtr), 56},
		"status": {unsafe.Offsetof(h.Status), 64}, "host_status": {unsafe.Offsetof(h.HostStatus), 68}, "resid": {unsafe.Offsetof(h.Resid), 72},
		"the end": {unsafe.Sizeof(h), 88},
	} {
		if unsafe.Sizeof(uintptr(0)) == 8 && at[0] != at[1] {
			t.Errorf("%s is at %d, want %d", name, at[0], at[1])
		}
	}
}

func TestTheOutcomeOfACommandIsTold(t *testing.T) {
	filemark := []byte{0xf0, 0, 0x80, 0, 0, 0, 3, 10, 0, 0, 0, 0, 0, 1}
	for _, tc := range []struct {
		name   string
		header header
		sense  []byte
		n      int
		want   error // of this type, and with this text
	}{
		{name: "all bytes", n: 8},
		{name: "a part", header: header{Resid: 3}, n: 5},
		{name: "more than asked for", header: header{Resid: -1}, want: &scsi.TransportError{Err: errors.New("-1 of 8 bytes are said not to have been moved")}},
		{name: "less than nothing", header: header{Resid: 9}, want: &scsi.TransportError{Err: errors.New("9 of 8 bytes are said not to have been moved")}},
		{
			name: "check condition", header: header{Status: 2, DriverStatus: 8, SenseLen: 14, Resid: 3}, sense: filemark, n: 5,
			want: &scsi.Sense{ASCQ: 1, Filemark: true, Info: 3, Valid: true},
		},
		{name: "sense with good status", header: header{DriverStatus: 8, SenseLen: 14}, sense: filemark, n: 8, want: &scsi.Sense{ASCQ: 1, Filemark: true, Info: 3, Valid: true}},
		{name: "sense and a wrong residue", header: header{Status: 2, SenseLen: 14, Resid: 99}, sense: filemark, want: &scsi.Sense{ASCQ: 1, Filemark: true, Info: 3, Valid: true}},
		{
			name: "check condition without sense", header: header{Status: 2, DriverStatus: 8},
			want: &scsi.TransportError{Err: errors.New("the device reports an error that is not readable: the device gave no sense data")},
		},
		{name: "busy", header: header{Status: 8}, want: &scsi.StatusError{Status: scsi.Busy}},
		{name: "reserved", header: header{Status: 0x18}, want: &scsi.StatusError{Status: scsi.ReservationConflict}},
		{name: "aborted by the clock", header: header{HostStatus: 3, DriverStatus: 6}, want: &scsi.TransportError{Timeout: true, Err: errTimeout}},
		{name: "time-out of the kernel alone", header: header{DriverStatus: 6}, want: &scsi.TransportError{Timeout: true, Err: errTimeout}},
		{name: "reset", header: header{HostStatus: 8}, want: &scsi.TransportError{Err: errors.New("the device or its bus was reset")}},
		{name: "a reset and a sense", header: header{HostStatus: 8, Status: 2, SenseLen: 14}, sense: filemark, want: &scsi.TransportError{Err: errors.New("the device or its bus was reset")}},
		{name: "an unknown host status", header: header{HostStatus: 0x77}, want: &scsi.TransportError{Err: errors.New("the host adapter says 0x77")}},
		{name: "an error of the driver", header: header{DriverStatus: 4}, want: &scsi.TransportError{Err: errors.New("the kernel's driver says 0x4")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := &frame{header: tc.header}
			copy(f.sense[:], tc.sense)
			n, err := f.result(scsi.TestUnitReady, 8)
			if n != tc.n || !sameError(err, tc.want) {
				t.Fatalf("n = %d, err = %#v; want %d, %#v", n, err, tc.n, tc.want)
			}
		})
	}
}

// sameError compares the kind and the words.
func sameError(got, want error) bool {
	if got == nil || want == nil {
		return got == want
	}
	_, a := scsi.AsSense(got)
	_, b := scsi.AsSense(want)
	g, c := errors.AsType[*scsi.TransportError](got)
	w, d := errors.AsType[*scsi.TransportError](want)
	return a == b && c == d && (!c || g.Timeout == w.Timeout) && got.Error() == want.Error()
}

func TestWhatIsNoGenericNodeIsRefused(t *testing.T) {
	for name, path := range map[string]string{"another driver's": "/dev/null", "a file": t.TempDir(), "none": t.TempDir() + "/sg9"} {
		if d, err := Open(path); err == nil {
			_ = d.Close()
			t.Errorf("%s node was accepted", name)
		}
	}
}
