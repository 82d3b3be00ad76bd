package jobs

import (
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/calendar"
	"github.com/holdfast-backup/holdfast/internal/format/address"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
	"github.com/holdfast-backup/holdfast/internal/property"
	"github.com/holdfast-backup/holdfast/internal/replicate"
	"github.com/holdfast-backup/holdfast/internal/tape/config"
)

// Properties lists what a section of a kind can say, and is checked. Those of GC
// and OldPrune are only a part of a datastore's.
func Properties(k Kind) []property.Property {
	schedule := property.Of("schedule", "when it runs, a calendar event such as daily", isEvent)
	comment := property.Line("comment", "a comment of one line", 128)
	store := property.Of("store", "the datastore", names.CheckStore).Must()
	ns := property.Of("ns", "namespace in it", isNamespace)
	depth := property.Int("max-depth", "levels of namespaces below, all without it", 0, 7)
	var keeps []property.Property
	for _, what := range []string{"last", "hourly", "daily", "weekly", "monthly", "yearly"} {
		keeps = append(keeps, property.Int("keep-"+what, "how many are kept, as of prune", 0, 1<<31-1))
	}
	switch k {
	case GC:
		return []property.Property{property.Of("gc-schedule", "when it runs, a calendar event such as daily", isEvent)}
	case OldPrune:
		return append([]property.Property{property.Of("prune-schedule", "when it runs", isEvent)}, keeps...)
	case Prune:
		disable := property.Bool("disable", "true: it is not run by itself")
		return append([]property.Property{store, ns, depth, schedule, disable, comment}, keeps...)
	case Verify:
		return []property.Property{
			store, ns, depth, schedule, comment,
			property.Bool("ignore-verified", "false: also what was verified before"),
			property.Int("outdated-after", "days after which it is verified again", 0, 36500),
			property.Int("read-threads", "of no effect here", 1, 32),
			property.Int("verify-threads", "chunks checked at a time", 1, 32),
		}
	case Tape:
		return config.Properties(config.Job)
	}
	return []property.Property{
		store, ns, depth, schedule, comment,
		property.Of("remote", "the other server; without it remote-store is a datastore of this one", isID),
		property.Of("remote-store", "datastore of the other server", names.CheckStore).Must(),
		property.Of("remote-ns", "namespace in that", isNamespace),
		property.Choice("sync-direction", "pull or push", "pull", "push"),
		property.Of("owner", "who owns new groups, and whose groups are touched", isAuthID),
		property.Bool("remove-vanished", "true: what the source does not have any more is removed"),
		property.Of("group-filter", "[include:|exclude:]type:TYPE, group:GROUP or regex:RE", isFilter).List(),
		property.Int("transfer-last", "only so many of the newest snapshots of a group", 1, 1<<31-1),
		property.Bool("encrypted-only", "true: only snapshots that are encrypted"),
		property.Bool("verified-only", "true: only snapshots that were verified at the source"),
		property.Bool("resync-corrupt", "true: damaged snapshots are stored anew"),
		property.Rate("rate-in", "bytes a second of a pull, as 10MiB"),
		property.Rate("rate-out", "bytes a second of a push, as 10MiB"),
		property.Rate("burst-in", "more for a moment; of no effect here"),
		property.Rate("burst-out", "more for a moment; of no effect here"),
		property.Int("worker-threads", "groups copied at a time", 1, 32),
	}
}

// RemoteProperties lists what a section of remote.cfg can say, besides the password.
func RemoteProperties() []property.Property {
	return []property.Property{
		property.Of("host", "name or address of the server", isHost).Must(),
		property.Int("port", "its port, 8007 without it", 1, 65535),
		property.Of("auth-id", "who logs in there: user@realm, or user@realm!token", isAuthID).Must(),
		property.Of("fingerprint", "of its certificate; not needed if a known authority has signed that", func(s string) error {
			_, err := address.ParseFingerprint(s)
			return err
		}),
		property.Line("comment", "a comment of one line", 128),
	}
}

// check reports why a section cannot be a job.
func check(k Kind, sec *sectionconfig.Section) error {
	err := property.Check(sec, Properties(k))
	if k != GC && k != OldPrune {
		if ierr := isID(sec.ID); ierr != nil {
			err = errors.Join(err, fmt.Errorf("id %q: %w", sec.ID, ierr))
		}
	}
	return err
}

func isEvent(s string) error {
	_, err := calendar.Parse(s)
	return err
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
