package replicate

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/names"
)

// Filter chooses groups. Its text is
//
//	[include:|exclude:]type:vm        all groups of a type
//	[include:|exclude:]group:vm/100   one group
//	[include:|exclude:]regex:RE       groups in whose names, as vm/100, RE is found
type Filter struct {
	Exclude bool

	typ   names.BackupType
	group names.Group
	re    *regexp.Regexp
}

// maxRegexp bounds the text of an expression, in bytes.
const maxRegexp = 4096

// ParseFilter reads the text of a filter.
func ParseFilter(s string) (f Filter, err error) {
	rest, exclude := strings.CutPrefix(s, "exclude:")
	f.Exclude = exclude
	if !exclude {
		rest = strings.TrimPrefix(rest, "include:")
	}
	kind, value, _ := strings.Cut(rest, ":")
	switch kind {
	case "type":
		f.typ, err = names.ParseType(value)
	case "group":
		f.group, err = names.ParseGroup(value)
	case "regex":
		if len(value) > maxRegexp {
			return Filter{}, fmt.Errorf("group filter: an expression of %d bytes, at most %d are allowed", len(value), maxRegexp)
		}
		f.re, err = regexp.Compile(value)
	default:
		err = fmt.Errorf("want type:, group: or regex:, with include: or exclude: before it if need be")
	}
	if err != nil {
		return Filter{}, fmt.Errorf("group filter %q: %w", s, err)
	}
	return f, nil
}

// String is the text.
func (f Filter) String() string {
	s := ""
	if f.Exclude {
		s = "exclude:"
	}
	switch {
	case f.re != nil:
		return s + "regex:" + f.re.String()
	case f.typ != "":
		return s + "type:" + string(f.typ)
	}
	return s + "group:" + f.group.String()
}

func (f Filter) fits(g names.Group) bool {
	switch {
	case f.re != nil:
		return f.re.MatchString(g.String())
	case f.typ != "":
		return f.typ == g.Type
	}
	return f.group == g
}

// Filters are several.
type Filters []Filter

// ParseFilters reads several texts.
func ParseFilters(texts []string) (Filters, error) {
	var l Filters
	for _, s := range texts {
		f, err := ParseFilter(s)
		if err != nil {
			return nil, err
		}
		l = append(l, f)
	}
	return l, nil
}

// Match reports whether a group passes: one of the including filters fits, or there
// is none, and no excluding one fits.
func (l Filters) Match(g names.Group) bool {
	including, in := false, false
	for _, f := range l {
		switch fits := f.fits(g); {
		case f.Exclude && fits:
			return false
		case !f.Exclude:
			including = true
			in = in || fits
		}
	}
	return in || !including
}
