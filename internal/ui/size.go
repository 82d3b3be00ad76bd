package ui

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size prints bytes the way the existing backup client does: binary units and
// up to three decimals, "1.5 GiB", "512 B".
func Size(n int64) string { return size(n, 1000) }

// Rough is Size with one decimal, for figures that change as one looks.
func Rough(n int64) string { return size(n, 10) }

func size(n int64, precision float64) string {
	if n > -1024 && n < 1024 {
		return strconv.FormatInt(n, 10) + " B"
	}
	f := float64(n)
	unit := -1
	for math.Abs(f) >= 1024 && unit < len(sizeUnits)-1 {
		f /= 1024
		unit++
	}
	f = math.Round(f*precision) / precision
	if math.Abs(f) >= 1024 && unit < len(sizeUnits)-1 { // 1023.9996 became 1024
		f /= 1024
		unit++
	}
	return strconv.FormatFloat(f, 'f', -1, 64) + " " + sizeUnits[unit]
}

var sizeUnits = [...]string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}

// ParseSize reads a number of bytes: "4096", "64K", "1.5 GiB", "10MB". K, KiB
// and Ki are 1024; KB is 1000; the same for M, G, T, P. An ending "/s" is
// allowed, for rates.
func ParseSize(s string) (int64, error) {
	bad := func(why string) error {
		return fmt.Errorf("%q is not a size (%s): write bytes, or a number with K, M, G, T such as 64M or 1.5GiB", s, why)
	}
	t := strings.TrimSpace(s)
	t = strings.TrimSpace(strings.TrimSuffix(t, "/s"))
	i := strings.IndexFunc(t, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	num, unit := t, ""
	if i >= 0 {
		num, unit = t[:i], strings.TrimSpace(t[i:])
	}
	factor, ok := sizeFactor(strings.ToLower(unit))
	if !ok {
		return 0, bad("unknown unit")
	}
	f, err := strconv.ParseFloat(num, 64)
	if err != nil {
		return 0, bad("no number")
	}
	f *= factor
	if f >= math.MaxInt64 {
		return 0, bad("too large")
	}
	return int64(f), nil
}

func sizeFactor(unit string) (float64, bool) {
	if unit == "" || unit == "b" {
		return 1, true
	}
	exp := strings.IndexByte("kmgtp", unit[0]) + 1
	if exp == 0 {
		return 0, false
	}
	switch unit[1:] {
	case "", "i", "ib":
		return math.Pow(1024, float64(exp)), true
	case "b":
		return math.Pow(1000, float64(exp)), true
	}
	return 0, false
}

// Ratio prints part of whole in percent: "12.3 %".
func Ratio(part, whole int64) string {
	if whole == 0 {
		return "0 %"
	}
	return strconv.FormatFloat(math.Round(float64(part)/float64(whole)*1000)/10, 'f', -1, 64) + " %"
}
