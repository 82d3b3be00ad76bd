package job

import (
	"fmt"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/tape"
)

// criticalAlerts are the TapeAlert flags that threaten data, or say that drive or
// medium failed: those after which nothing is written.
var criticalAlerts = []struct {
	flag int
	text string
}{
	{0x04, "media failure"},
	{0x05, "read failure"},
	{0x06, "write failure"},
	{0x09, "write protect"},
	{0x0e, "unrecoverable snapped tape"},
	{0x10, "forced eject"},
	{0x16, "expired cleaning media"},
	{0x17, "invalid cleaning tape"},
	{0x1e, "hardware A"},
	{0x1f, "hardware B"},
	{0x21, "eject media"},
	{0x26, "predictive failure"},
	{0x29, "loader stray tape"},
	{0x2d, "loader magazine"},
	{0x34, "tape system area write failure"},
	{0x35, "tape system area read failure"},
	{0x36, "no start of data"},
	{0x37, "loading failure"},
	{0x38, "unrecoverable unload failure"},
	{0x39, "automation interface failure"},
}

// critical lists the alerts that threaten data; "" if there are none.
func critical(a tape.Alerts) string {
	var list []string
	for _, c := range criticalAlerts {
		if a.Has(c.flag) {
			list = append(list, fmt.Sprintf("%s (alert %d)", c.text, c.flag))
		}
	}
	return strings.Join(list, ", ")
}
