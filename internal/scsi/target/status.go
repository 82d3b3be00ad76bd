package target

import (
	"errors"

	"github.com/holdfast-backup/holdfast/internal/scsi"
)

// Encode is what goes over a wire of SCSI for the error of a unit: a status,
// and with CheckCondition a sense in fixed format. For a device that does not
// answer there is nothing in SCSI; it becomes TaskAborted.
func Encode(err error) (scsi.Status, []byte) {
	if err == nil {
		return scsi.Good, nil
	}
	if s, ok := scsi.AsSense(err); ok {
		return scsi.CheckCondition, s.Append(nil)
	}
	if s, ok := errors.AsType[*scsi.StatusError](err); ok {
		return s.Status, nil
	}
	return scsi.TaskAborted, nil
}
