package ui

import (
	"fmt"
	"time"
)

// Duration prints a time span with the two units that matter: "3.2 s",
// "4 min 07 s", "2 h 05 min", "3 d 04 h".
func Duration(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + Duration(-d)
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Truncate(100*time.Millisecond).Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%d h %02d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d d %02d h", int(d.Hours())/24, int(d.Hours())%24)
}

// Rate prints bytes in a time span as a speed, with one decimal.
func Rate(bytes int64, d time.Duration) string {
	if d <= 0 {
		return "- /s"
	}
	return Rough(int64(float64(bytes)/d.Seconds())) + "/s"
}

// Clock prints a time that is left: "0:21", "1:02:03".
func Clock(d time.Duration) string {
	s := int64(d.Round(time.Second).Seconds())
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}
