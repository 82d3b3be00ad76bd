package target_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/target"
)

// unitFunc is a unit of one function.
type unitFunc func(cdb, out, in []byte) (int, error)

func (f unitFunc) Execute(cdb, out, in []byte) (int, error) { return f(cdb, out, in) }

func TestAUnitInThisProcessAnswers(t *testing.T) {
	tr := target.Connect(unitFunc(func(_, out, in []byte) (int, error) {
		if len(out) > 0 {
			return len(out) + 7, nil // more than there is
		}
		return copy(in, "abc"), &scsi.Sense{Key: scsi.NoSense, ASCQ: 1, Filemark: true}
	}))
	b := make([]byte, 8)
	n, err := tr.Do(scsi.Command{CDB: make([]byte, 6), Dir: scsi.Out, Data: b, Timeout: time.Second})
	if n != 8 || err != nil {
		t.Fatalf("a write moved %d bytes: %v", n, err)
	}
	n, err = tr.Do(scsi.Command{CDB: []byte{0x08, 0, 0, 0, 8, 0}, Dir: scsi.In, Data: b, Timeout: time.Second})
	if s, ok := scsi.AsSense(err); n != 3 || !ok || s.Op != scsi.Read6 || !s.Filemark {
		t.Fatalf("a read moved %d bytes: %v", n, err)
	}
}

func TestAClosedTransportSendsNothing(t *testing.T) {
	tr := target.Connect(unitFunc(func(_, _, _ []byte) (int, error) {
		t.Error("a command reached the unit")
		return 0, nil
	}))
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := tr.Do(scsi.Command{CDB: make([]byte, 6), Timeout: time.Second})
	if _, ok := errors.AsType[*scsi.TransportError](err); !ok || !errors.Is(err, os.ErrClosed) {
		t.Fatalf("err = %v, want a TransportError of os.ErrClosed", err)
	}
}

func TestACommandThatIsNoneReachesNoUnit(t *testing.T) {
	tr := target.Connect(unitFunc(func(cdb, _, _ []byte) (int, error) {
		t.Errorf("%x reached the unit", cdb)
		return 0, nil
	}))
	for name, c := range map[string]scsi.Command{
		"short CDB":              {CDB: make([]byte, 5), Timeout: time.Second},
		"long CDB":               {CDB: make([]byte, 17), Timeout: time.Second},
		"data without direction": {CDB: make([]byte, 6), Data: make([]byte, 1), Timeout: time.Second},
		"unknown direction":      {CDB: make([]byte, 6), Dir: 3, Timeout: time.Second},
		"too much data":          {CDB: make([]byte, 6), Dir: scsi.In, Data: make([]byte, scsi.MaxData+1), Timeout: time.Second},
		"no timeout":             {CDB: make([]byte, 6)},
	} {
		if _, err := tr.Do(c); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
