package stores

import (
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/calendar"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
	"github.com/holdfast-backup/holdfast/internal/property"
)

// Properties lists what can be said of a datastore, besides its path.
func Properties() []property.Property {
	list := []property.Property{
		property.Line("comment", "a comment of one line", 128),
		property.Of("gc-schedule", "when garbage is collected, a calendar event such as daily", isEvent),
		property.Of("prune-schedule", "when it is pruned; better is a prune job", isEvent),
	}
	for _, what := range []string{"last", "hourly", "daily", "weekly", "monthly", "yearly"} {
		list = append(list, property.Int("keep-"+what, "how many prune-schedule keeps, as of prune", 0, 1<<31-1))
	}
	return append(
		list,
		property.Bool("verify-new", "true: backups are verified when they have come"),
		property.Of("maintenance-mode", "read-only or offline, as in type=read-only,message=moving", propertiesOf("type", nil)),
		property.Of("tuning", "properties such as sync-level=file,gc-atime-cutoff=1445", propertiesOf("", nil)),
		property.Choice("notification-mode", "how people hear of its jobs", legacyMode, systemMode),
		property.Of("notify-user", "who gets mail about its jobs in the mode legacy-sendmail: user@realm", isAuthID),
		property.Of("notify", "about which of them, as in gc=error,prune=never,sync=always,verify=error", propertiesOf("", isNotify)),
	)
}

func isEvent(s string) error {
	_, err := calendar.Parse(s)
	return err
}

func isAuthID(s string) error {
	_, err := names.ParseAuthID(s)
	return err
}

// propertiesOf accepts property strings whose values check accepts.
func propertiesOf(defaultKey string, check func(key, value string) error) func(string) error {
	return func(s string) error {
		list, err := sectionconfig.ParseProperties(s, defaultKey)
		if err != nil || check == nil {
			return err
		}
		var errs []error
		for _, p := range list {
			errs = append(errs, check(p.Key, p.Value))
		}
		return errors.Join(errs...)
	}
}

// The values of notification-mode.
const (
	legacyMode = "legacy-sendmail"
	systemMode = "notification-system"
)

// Mailing is how people hear of the jobs of a datastore in the way of PBS before 3.2:
// one user, by sendmail.
type Mailing struct {
	User string
	when map[string]string // by what jobs do: always, error or never
}

// Mailing reports whether it is this way: if the mode says so, or without a mode if
// there is somebody or something to notify of.
func (c Config) Mailing() (Mailing, bool) {
	mode, _ := c.section.Get("notification-mode")
	user, hasUser := c.section.Get("notify-user")
	text, hasWhen := c.section.Get("notify")
	if mode != legacyMode && (mode != "" || !hasUser && !hasWhen) {
		return Mailing{}, false
	}
	m := Mailing{user, map[string]string{}}
	if user == "" {
		m.User = "root@pam"
	}
	// What cannot be read is as if it were not there: then more is told.
	list, _ := sectionconfig.ParseProperties(text, "")
	for _, p := range list {
		m.when[p.Key] = p.Value
	}
	return m, true
}

// Wants reports whether mail is sent about a job that did what ("gc", "prune", "sync",
// "verify"), and went well or not. Without a word about it, prunings that went well
// are not told.
func (m Mailing) Wants(what string, well bool) bool {
	switch m.when[what] {
	case "never":
		return false
	case "always":
		return true
	case "error":
		return !well
	}
	return !well || what != "prune"
}

func isNotify(key, value string) error {
	switch key {
	case "gc", "prune", "sync", "verify":
	default:
		return fmt.Errorf("%q is none of gc, prune, sync and verify", key)
	}
	switch value {
	case "always", "error", "never":
		return nil
	}
	return fmt.Errorf("%s=%q: want always, error or never", key, value)
}
