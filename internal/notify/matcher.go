package notify

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/calendar"
	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
)

// matcher decides which messages go to its targets.
type matcher struct {
	name       string
	any        bool // one of the rules is enough
	invert     bool
	severities []rule
	fields     []rule
	times      []rule
	targets    []string
}

// rule is one line of a matcher.
type rule func(m Message, loc *time.Location) bool

func parseMatcher(sec *sectionconfig.Section) (matcher, error) {
	m := matcher{name: sec.ID, targets: sec.All("target")}
	switch mode, _ := sec.Get("mode"); mode {
	case "", "all":
	case "any":
		m.any = true
	default:
		return m, fmt.Errorf("mode %q: want all or any", mode)
	}
	var err error
	if m.invert, err = sec.Bool("invert-match", false); err != nil {
		return m, err
	}
	for _, part := range []struct {
		key   string
		parse func(string) (rule, error)
		to    *[]rule
	}{
		{"match-severity", parseSeverityRule, &m.severities},
		{"match-field", parseFieldRule, &m.fields},
		{"match-calendar", parseTimeRule, &m.times},
	} {
		for _, text := range sec.All(part.key) {
			r, err := part.parse(text)
			if err != nil {
				return m, fmt.Errorf("%s %q: %w", part.key, text, err)
			}
			*part.to = append(*part.to, r)
		}
	}
	return m, nil
}

func (m matcher) matches(msg Message, loc *time.Location) bool {
	fits := !m.any
	some := false
	for _, rules := range [][]rule{m.severities, m.fields, m.times} {
		for _, r := range rules {
			some = true
			if ok := r(msg, loc); m.any {
				fits = fits || ok
			} else {
				fits = fits && ok
			}
		}
	}
	return !some || fits != m.invert
}

func parseSeverityRule(s string) (rule, error) {
	var list []Severity
	for one := range strings.SplitSeq(s, ",") {
		v, err := parseSeverity(strings.TrimSpace(one))
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return func(m Message, _ *time.Location) bool { return slices.Contains(list, m.Severity) }, nil
}

func parseFieldRule(s string) (rule, error) {
	kind, rest, _ := strings.Cut(s, ":")
	field, value, ok := strings.Cut(rest, "=")
	if !ok || field == "" {
		return nil, fmt.Errorf("want exact:FIELD=VALUE or regex:FIELD=RE")
	}
	switch kind {
	case "exact":
		var list []string
		for one := range strings.SplitSeq(value, ",") {
			list = append(list, strings.TrimSpace(one))
		}
		return func(m Message, _ *time.Location) bool {
			has, ok := m.Fields[field]
			return ok && slices.Contains(list, has)
		}, nil
	case "regex":
		re, err := regexp.Compile(value)
		if err != nil {
			return nil, err
		}
		return func(m Message, _ *time.Location) bool {
			has, ok := m.Fields[field]
			return ok && re.MatchString(has)
		}, nil
	}
	return nil, fmt.Errorf("want exact:FIELD=VALUE or regex:FIELD=RE")
}

// parseTimeRule reads "[WEEKDAYS] HH[:MM]-HH[:MM]". The end does not count; 24 is
// midnight.
func parseTimeRule(s string) (rule, error) {
	words := strings.Fields(s)
	if len(words) == 0 || len(words) > 2 {
		return nil, fmt.Errorf("want [WEEKDAYS] HH:MM-HH:MM")
	}
	from, to, ok := strings.Cut(words[len(words)-1], "-")
	first, err1 := minutes(from)
	last, err2 := minutes(to)
	if !ok || err1 != nil || err2 != nil || first >= last {
		return nil, fmt.Errorf("want [WEEKDAYS] HH:MM-HH:MM, the first before the second")
	}
	days := "*-*-*"
	if len(words) == 2 {
		days = words[0]
	}
	day, err := calendar.Parse(days + " 12:00") // noon is there every day
	if err != nil {
		return nil, err
	}
	return func(m Message, loc *time.Location) bool {
		t := m.Time.In(loc)
		if at := t.Hour()*60 + t.Minute(); at < first || at >= last {
			return false
		}
		noon := time.Date(t.Year(), t.Month(), t.Day(), 12, 0, 0, 0, loc)
		next, ok := day.Next(noon.Add(-time.Second), loc)
		return ok && next.Equal(noon)
	}, nil
}

// minutes reads a time of day.
func minutes(s string) (int, error) {
	h, m, ok := strings.Cut(s, ":")
	if !ok {
		m = "0"
	}
	hours, err := strconv.ParseUint(h, 10, 8)
	if err != nil {
		return 0, err
	}
	mins, err := strconv.ParseUint(m, 10, 8)
	if err != nil {
		return 0, err
	}
	if n := int(hours*60 + mins); mins < 60 && n <= 24*60 {
		return n, nil
	}
	return 0, fmt.Errorf("%q is no time of day", s)
}
