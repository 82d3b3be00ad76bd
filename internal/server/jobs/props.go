package jobs

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/calendar"
	"github.com/holdfast-backup/holdfast/internal/format/address"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
	"github.com/holdfast-backup/holdfast/internal/replicate"
)

// Property is something that a section can say.
type Property struct {
	Key, Help string
	Many      bool // it may stand several times
	Needed    bool

	check func(string) error
}

// Check reports whether a text can be its value.
func (p Property) Check(text string) error {
	if err := p.check(text); err != nil {
		return fmt.Errorf("%s %q: %w", p.Key, text, err)
	}
	return nil
}

// Properties lists what a section of a kind can say, and is checked. Those of GC
// and OldPrune are only a part of a datastore's.
func Properties(k Kind) []Property {
	schedule := Property{Key: "schedule", Help: "when it runs, a calendar event such as daily", check: isEvent}
	comment := Property{Key: "comment", Help: "a comment of one line", check: isLine}
	store := Property{Key: "store", Help: "the datastore", Needed: true, check: names.CheckStore}
	ns := Property{Key: "ns", Help: "namespace in it", check: isNamespace}
	depth := Property{Key: "max-depth", Help: "levels of namespaces below, all without it", check: number(0, 7)}
	var keeps []Property
	for _, what := range []string{"last", "hourly", "daily", "weekly", "monthly", "yearly"} {
		keeps = append(keeps, Property{Key: "keep-" + what, Help: "how many are kept, as of prune", check: number(0, 1<<31-1)})
	}
	switch k {
	case GC:
		return []Property{{Key: "gc-schedule", Help: "when it runs, a calendar event such as daily", check: isEvent}}
	case OldPrune:
		return append([]Property{{Key: "prune-schedule", Help: "when it runs", check: isEvent}}, keeps...)
	case Prune:
		disable := Property{Key: "disable", Help: "true: it is not run by itself", check: isBool}
		return append([]Property{store, ns, depth, schedule, disable, comment}, keeps...)
	case Verify:
		return []Property{
			store, ns, depth, schedule, comment,
			{Key: "ignore-verified", Help: "false: also what was verified before", check: isBool},
			{Key: "outdated-after", Help: "days after which it is verified again", check: number(0, 36500)},
			{Key: "read-threads", Help: "of no effect here", check: number(1, 32)},
			{Key: "verify-threads", Help: "chunks checked at a time", check: number(1, 32)},
		}
	}
	return []Property{
		store, ns, depth, schedule, comment,
		{Key: "remote", Help: "the other server; without it remote-store is a datastore of this one", check: isID},
		{Key: "remote-store", Help: "datastore of the other server", Needed: true, check: names.CheckStore},
		{Key: "remote-ns", Help: "namespace in that", check: isNamespace},
		{Key: "sync-direction", Help: "pull or push", check: oneOf("pull", "push")},
		{Key: "owner", Help: "who owns new groups, and whose groups are touched", check: isAuthID},
		{Key: "remove-vanished", Help: "true: what the source does not have any more is removed", check: isBool},
		{Key: "group-filter", Help: "[include:|exclude:]type:TYPE, group:GROUP or regex:RE", Many: true, check: isFilter},
		{Key: "transfer-last", Help: "only so many of the newest snapshots of a group", check: number(1, 1<<31-1)},
		{Key: "encrypted-only", Help: "true: only snapshots that are encrypted", check: isBool},
		{Key: "verified-only", Help: "true: only snapshots that were verified at the source", check: isBool},
		{Key: "resync-corrupt", Help: "true: damaged snapshots are stored anew", check: isBool},
		{Key: "rate-in", Help: "bytes a second of a pull, as 10MiB", check: isRate},
		{Key: "rate-out", Help: "bytes a second of a push, as 10MiB", check: isRate},
		{Key: "worker-threads", Help: "groups copied at a time", check: number(1, 32)},
	}
}

// RemoteProperties lists what a section of remote.cfg can say, besides the password.
func RemoteProperties() []Property {
	return []Property{
		{Key: "host", Help: "name or address of the server", Needed: true, check: isHost},
		{Key: "port", Help: "its port, 8007 without it", check: number(1, 65535)},
		{Key: "auth-id", Help: "who logs in there: user@realm, or user@realm!token", Needed: true, check: isAuthID},
		{Key: "fingerprint", Help: "of its certificate; not needed if a known authority has signed that", check: func(s string) error {
			_, err := address.ParseFingerprint(s)
			return err
		}},
		{Key: "comment", Help: "a comment of one line", check: isLine},
	}
}

// check reports why a section cannot be a job.
func check(k Kind, sec *sectionconfig.Section) error {
	var errs []error
	for _, p := range Properties(k) {
		values := sec.All(p.Key)
		if len(values) == 0 && p.Needed {
			errs = append(errs, fmt.Errorf("%s is missing", p.Key))
		}
		for _, v := range values {
			if err := p.Check(v); err != nil {
				errs = append(errs, err)
			}
		}
	}
	if k != GC && k != OldPrune {
		if err := isID(sec.ID); err != nil {
			errs = append(errs, fmt.Errorf("id %q: %w", sec.ID, err))
		}
	}
	return errors.Join(errs...)
}

func isEvent(s string) error {
	_, err := calendar.Parse(s)
	return err
}

func isLine(s string) error {
	if len(s) > 128 || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errors.New("want one line of at most 128 bytes")
	}
	return nil
}

func isID(s string) error {
	if !names.IsSafeID(s) || len(s) < 3 || len(s) > 32 {
		return errors.New("want 3 to 32 letters, digits, '-', '_' or '.'")
	}
	return nil
}

func isNamespace(s string) error {
	_, err := names.ParseNamespace(s)
	return err
}

func isAuthID(s string) error {
	_, err := names.ParseAuthID(s)
	return err
}

func isBool(s string) error {
	_, err := sectionconfig.ParseBool(s)
	return err
}

func isFilter(s string) error {
	_, err := replicate.ParseFilter(s)
	return err
}

func isHost(s string) error {
	if s == "" || len(s) > 255 || strings.ContainsAny(s, " \t/@") {
		return errors.New("want a host name or an address")
	}
	return nil
}

func number(low, high int64) func(string) error {
	return func(s string) error {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < low || n > high {
			return fmt.Errorf("want a number from %d to %d", low, high)
		}
		return nil
	}
}

func oneOf(words ...string) func(string) error {
	return func(s string) error {
		for _, w := range words {
			if s == w {
				return nil
			}
		}
		return fmt.Errorf("want %s", strings.Join(words, " or "))
	}
}

var rateForm = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) ?([KMGTP]?)(i?)B?$`)

// parseRate reads bytes a second, with units as in 1.5MB or 10 MiB.
func parseRate(s string) (int64, error) {
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

func isRate(s string) error {
	_, err := parseRate(s)
	return err
}
