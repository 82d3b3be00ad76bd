package calendar

import (
	"fmt"
	"strings"
)

// maxText bounds an event, in bytes.
const maxText = 4096

// Parse reads an event.
func Parse(s string) (Event, error) {
	if len(s) > maxText {
		return Event{}, fmt.Errorf("%w: it has more than %d bytes", ErrFormat, maxText)
	}
	p := &parser{all: s, rest: s}
	e, err := p.event()
	if err != nil {
		return Event{}, fmt.Errorf("calendar event %q: %w", s, err)
	}
	return e, nil
}

// parser reads from the front of rest.
type parser struct{ all, rest string }

func (p *parser) bad(format string, args ...any) error {
	at := "at its end"
	if p.rest != "" {
		at = fmt.Sprintf("at %q", p.rest)
	}
	return fmt.Errorf("%w: %s %s", ErrFormat, fmt.Sprintf(format, args...), at)
}

// keywords are events with names, in full.
var keywords = map[string]string{
	"minutely":      "*-*-* *:*:00",
	"hourly":        "*-*-* *:00:00",
	"daily":         "*-*-* 00:00:00",
	"weekly":        "mon *-*-* 00:00:00",
	"monthly":       "*-*-01 00:00:00",
	"quarterly":     "*-01,04,07,10-01 00:00:00",
	"semiannually":  "*-01,07-01 00:00:00",
	"semi-annually": "*-01,07-01 00:00:00",
	"yearly":        "*-01-01 00:00:00",
	"annually":      "*-01-01 00:00:00",
}

func (p *parser) event() (e Event, err error) {
	if rest, ok := strings.CutSuffix(p.rest, "UTC"); ok {
		e.utc, p.rest = true, strings.TrimRight(rest, " ")
	}
	if full, ok := keywords[p.rest]; ok {
		p.rest = full
	}
	parts := 0
	if p.rest != "" && letter(p.rest[0]) {
		if e.days, err = p.weekdays(); err != nil {
			return e, err
		}
		parts++
		p.spaces()
	}
	// A "-" where no time can have one says that there is a date.
	if date, _, _ := strings.Cut(p.rest, " "); strings.Contains(date, "-") {
		if err := p.date(&e); err != nil {
			return e, err
		}
		parts++
		p.spaces()
	}
	switch {
	case p.rest != "":
		if err := p.time(&e); err != nil {
			return e, err
		}
	case parts == 0:
		return e, p.bad("want weekdays, a date or a time")
	default:
		e.hour, e.minute, e.second = one(0), one(0), one(0)
	}
	if p.rest != "" {
		return e, p.bad("want no more")
	}
	return e, nil
}

func one(v int) field { return field{{v, v, 1}} }

func (p *parser) spaces() { p.rest = strings.TrimLeft(p.rest, " \t") }

func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
func digit(c byte) bool  { return c >= '0' && c <= '9' }

// take reads a fixed text, if it is there.
func (p *parser) take(s string) bool {
	rest, ok := strings.CutPrefix(p.rest, s)
	p.rest = rest
	return ok
}

// weekdays reads a list of them.
func (p *parser) weekdays() (set uint8, err error) {
	for {
		from, err := p.weekday()
		if err != nil {
			return 0, err
		}
		to := from
		if p.take("..") {
			if to, err = p.weekday(); err != nil {
				return 0, err
			}
		}
		for d := from; ; d = (d + 1) % 7 {
			set |= 1 << d
			if d == to {
				break
			}
		}
		if !p.take(",") {
			return set, nil
		}
	}
}

// weekday reads one, in short or in full: 0 is Monday.
func (p *parser) weekday() (int, error) {
	n := 0
	for n < len(p.rest) && letter(p.rest[n]) {
		n++
	}
	word := strings.ToLower(p.rest[:n])
	for i, name := range [7]string{"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"} {
		if word == name || word == weekdays[i] {
			p.rest = p.rest[n:]
			return i, nil
		}
	}
	return 0, p.bad("want a weekday")
}

// date reads [years-]months-days.
func (p *parser) date(e *Event) (err error) {
	date, _, _ := strings.Cut(p.rest, " ")
	if strings.Count(date, "-") == 2 {
		if e.year, err = p.field(years); err != nil {
			return err
		}
		if !p.take("-") {
			return p.bad("want - and a month")
		}
	}
	if e.month, err = p.field(months); err != nil {
		return err
	}
	if !p.take("-") {
		return p.bad("want - and a day")
	}
	e.day, err = p.field(days)
	return err
}

// time reads [hours:]minutes[:seconds].
func (p *parser) time(e *Event) (err error) {
	colons := strings.Count(p.rest, ":")
	e.second = one(0)
	if colons > 0 {
		if e.hour, err = p.field(hours); err != nil {
			return err
		}
		if !p.take(":") {
			return p.bad("want : and minutes")
		}
	}
	if e.minute, err = p.field(minutes); err != nil {
		return err
	}
	if colons > 1 {
		if !p.take(":") {
			return p.bad("want : and seconds")
		}
		e.second, err = p.field(seconds)
	}
	return err
}

// field reads the values of one part.
func (p *parser) field(of part) (field, error) {
	if p.take("*") {
		if !p.take("/") {
			return nil, nil
		}
		step, err := p.number(of.name, of.max)
		if err == nil && step == 0 {
			err = p.bad("every 0-th %s is none", of.name)
		}
		return field{{of.min, of.max, step}}.plain(of), err
	}
	var f field
	for {
		r, err := p.values(of)
		if err != nil {
			return nil, err
		}
		f = append(f, r)
		if !p.take(",") {
			return f, nil
		}
	}
}

// plain returns no values for all of them.
func (f field) plain(of part) field {
	if f[0] == (values{of.min, of.max, 1}) {
		return nil
	}
	return f
}

// values reads a, a..b, a/n or a..b/n.
func (p *parser) values(of part) (r values, err error) {
	if r.from, err = p.value(of); err != nil {
		return r, err
	}
	r.to, r.step = r.from, 1
	if p.take("..") {
		if r.to, err = p.value(of); err != nil {
			return r, err
		}
		if r.to < r.from {
			return r, p.bad("%d is before %d", r.to, r.from)
		}
	}
	if p.take("/") {
		if r.step, err = p.number(of.name, of.max); err != nil {
			return r, err
		}
		switch {
		case r.step == 0: // as PBS reads it: the first alone
			r.to, r.step = r.from, 1
		case r.to == r.from:
			r.to = of.max
		}
		// The last value of its own, so that the same values look the same.
		if r.to = r.from + (r.to-r.from)/r.step*r.step; r.to == r.from {
			r.step = 1
		} else if r.step > 1 && r.to+r.step > of.max {
			r.to = of.max
		}
	}
	return r, nil
}

func (p *parser) value(of part) (int, error) {
	n, err := p.number(of.name, of.max)
	if err == nil && n < of.min {
		err = p.bad("the least %s is %d; want more", of.name, of.min)
	}
	return n, err
}

// number reads one of at most max.
func (p *parser) number(name string, max int) (int, error) {
	n, i := 0, 0
	for ; i < len(p.rest) && digit(p.rest[i]); i++ {
		if n = n*10 + int(p.rest[i]-'0'); n > max {
			return 0, p.bad("want a %s of at most %d", name, max)
		}
	}
	if i == 0 {
		return 0, p.bad("want a %s", name)
	}
	p.rest = p.rest[i:]
	return n, nil
}
