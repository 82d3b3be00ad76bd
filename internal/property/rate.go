package property

import (
	"errors"
	"regexp"
	"strconv"
	"strings"
)

var rateForm = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) ?([KMGTP]?)(i?)B?$`)

// Rate is a text that ParseRate reads.
func Rate(key, help string) Property {
	return Of(key, help, func(s string) error {
		_, err := ParseRate(s)
		return err
	})
}

// ParseRate reads bytes a second, or bytes, with units as in 1.5MB or 10 MiB.
func ParseRate(s string) (int64, error) {
	m := rateForm.FindStringSubmatch(s)
	if m == nil || m[2] == "" && m[3] != "" {
		return 0, errors.New("want bytes a second, as 10MiB")
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return 0, err
	}
	base := 1000.0
	if m[3] != "" {
		base = 1024
	}
	for range strings.Index("KMGTP", m[2]) + min(len(m[2]), 1) {
		n *= base
	}
	if n < 1 || n > 1<<60 {
		return 0, errors.New("that is no speed")
	}
	return int64(n), nil
}
