package lto

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/lto/logpage"
)

// logRoom is more than any page has, in bytes.
const logRoom = 16 << 10

// log asks for a log page with the values since the beginning.
func (d *Drive) log(page uint8, timeout time.Duration) ([]byte, error) {
	b := make([]byte, logRoom)
	cdb := []byte{byte(scsi.LogSense), 0, 0x40 | page, 0, 0, 0, 0, logRoom >> 8, logRoom & 0xff, 0}
	n, err := d.ask(scsi.Command{CDB: cdb, Dir: scsi.In, Data: b, Timeout: timeout})
	return b[:n], err
}

// Volume asks what the drive knows of the loaded medium; tape.ErrUnsupported if
// it keeps no statistics, or has none of this one.
func (d *Drive) Volume() (logpage.Statistics, error) {
	b, err := d.log(logpage.Volume, answer)
	if err == nil {
		var s logpage.Statistics
		if s, err = logpage.ParseVolume(b); err == nil {
			return s, nil
		}
	}
	if refused(err) || errors.Is(err, logpage.ErrNotValid) {
		err = fmt.Errorf("%w: %w", tape.ErrUnsupported, err)
	}
	return logpage.Statistics{}, err
}

// Used is how much was written to the medium.
func (d *Drive) Used(context.Context) (int64, error) {
	s, err := d.Volume()
	return int64(s.Used), err
}

// Activity asks what the drive works on, which it tells while it does. One that
// is slow to tell is given time: after a timeout it would be reset.
func (d *Drive) Activity() (logpage.Doing, error) {
	b, err := d.log(logpage.Activity, quick)
	if err != nil {
		return 0, err
	}
	return logpage.ParseActivity(b)
}

// Alerts asks for the TapeAlert flags, without clearing them where the drive
// can.
func (d *Drive) Alerts(context.Context) (tape.Alerts, error) {
	b, err := d.log(logpage.Alerts12, answer)
	if err == nil {
		a, err := logpage.ParseAlerts(b, logpage.Alerts12)
		if err == nil {
			return a, nil
		}
	} else if !refused(err) {
		return 0, err
	}
	b, err = d.log(logpage.Alerts2E, answer)
	if err != nil {
		return 0, err
	}
	return logpage.ParseAlerts(b, logpage.Alerts2E)
}
