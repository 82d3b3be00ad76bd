package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/calendar"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
	"github.com/holdfast-backup/holdfast/internal/property"
	"github.com/holdfast-backup/holdfast/internal/replicate"
	"github.com/holdfast-backup/holdfast/internal/tape/media"
)

// Properties lists what a section of a kind can say.
func Properties(k Kind) []property.Property {
	switch k {
	case LTO:
		return []property.Property{
			property.Of("path", "the device, as /dev/tape/by-id/scsi-SERIAL-sg, /dev/sg0 or serial:SERIAL", isPath).Must(),
			property.Of("changer", "the changer that serves the drive", isName),
			property.Int("changer-drivenum", "the number of the drive in the changer, from 0", 0, 255),
		}
	case Virtual:
		return []property.Property{
			property.Of("path", "an absolute directory, which holds the media", isDir).Must(),
			property.Int("max-size", "how much a medium holds, in bytes; 64 MiB without it", 1<<20, 1<<50),
		}
	case Changer:
		return []property.Property{
			property.Of("path", "the device, as /dev/tape/by-id/scsi-SERIAL, /dev/sg1 or serial:SERIAL", isPath).Must(),
			property.Of("export-slots", "numbers of more slots that people put media into and take out of, as 7,8", isSlots),
			property.Bool("eject-before-unload", "true: drives have to eject a medium before the changer can take it"),
		}
	case Pool:
		return []property.Property{
			property.Of("allocation", "when a new media set is begun: continue (never by itself), always, or a calendar event", isAllocation),
			property.Of("retention", "how long media are kept: keep (for ever), overwrite (until they are needed), or a span of time", isRetention),
			property.Of("template", "name of media sets, with %Y, %m, %d and the like, and %id%; %c without it", isTemplate),
			property.Of("encrypt", "fingerprint of the key that new media sets are encrypted with", isFingerprint),
			property.Line("comment", "a comment of one line", 128),
		}
	}
	return []property.Property{
		property.Of("store", "the datastore", names.CheckStore).Must(),
		property.Of("pool", "the pool", isPool).Must(),
		property.Of("drive", "the drive", isName).Must(),
		property.Of("schedule", "when it runs, a calendar event such as daily", isEvent),
		property.Of("ns", "namespace in the datastore", isNamespace),
		property.Int("max-depth", "levels of namespaces below, all without it", 0, 7),
		property.Of("group-filter", "[include:|exclude:]type:TYPE, group:GROUP or regex:RE", isFilter).List(),
		property.Bool("latest-only", "true: only the newest snapshot of each group"),
		property.Bool("eject-media", "true: the medium is ejected at the end"),
		property.Bool("export-media-set", "true: the media go to slots for people at the end"),
		property.Int("worker-threads", "threads that read chunks", 1, 32),
		property.Of("notify-user", "who gets mail about it in the mode legacy-sendmail: user@realm", isAuthID),
		property.Choice("notification-mode", "how people hear of it", "legacy-sendmail", "notification-system"),
		property.Line("comment", "a comment of one line", 128),
	}
}

// check reports what is wrong with a section in its file.
func check(f *sectionconfig.File, sec *sectionconfig.Section, k Kind) error {
	errs := []error{property.Check(sec, Properties(k))}
	path, _ := sec.Get("path")
	for _, o := range f.Sections {
		if p, _ := o.Get("path"); o != sec && path != "" && p == path {
			errs = append(errs, fmt.Errorf("path: %s %q is at %s already", o.Type, o.ID, p))
		}
	}
	if k == LTO {
		name, ok := sec.Get("changer")
		if _, has := sec.Get("changer-drivenum"); has && !ok {
			errs = append(errs, errors.New("changer-drivenum: there is no changer"))
		}
		if ok {
			_, err := find(f, Changer, name)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func isPath(s string) error {
	if rest, ok := strings.CutPrefix(s, "serial:"); ok {
		if rest == "" || strings.ContainsAny(rest, " \t/") {
			return errors.New("want serial: and the serial number of the device")
		}
		return nil
	}
	return isDir(s)
}

func isDir(s string) error {
	if !filepath.IsAbs(s) || filepath.Clean(s) != s {
		return errors.New("want an absolute path")
	}
	return nil
}

func isName(s string) error { return checkName(LTO, s) }
func isPool(s string) error { return checkName(Pool, s) }

// parseSlots reads numbers of slots, from 1.
func parseSlots(s string) ([]int, error) {
	var slots []int
	for field := range strings.FieldsFuncSeq(s, func(r rune) bool { return strings.ContainsRune(",; \t", r) }) {
		n, err := strconv.Atoi(field)
		if err != nil || n < 1 || n > 65535 {
			return nil, errors.New("want numbers of slots from 1, as 7,8")
		}
		slots = append(slots, n)
	}
	return slots, nil
}

func isSlots(s string) error {
	_, err := parseSlots(s)
	return err
}

func isAllocation(s string) error {
	_, err := media.ParseAllocation(s)
	return err
}

func isRetention(s string) error {
	_, err := media.ParseRetention(s)
	return err
}

func isTemplate(s string) error {
	if len(s) < 2 {
		return errors.New("want at least two characters")
	}
	return property.Line("template", "", 64).Check(s)
}

func isFingerprint(s string) error {
	_, err := chunkcrypt.ParseFingerprint(s)
	return err
}

func isEvent(s string) error {
	_, err := calendar.Parse(s)
	return err
}

func isNamespace(s string) error {
	_, err := names.ParseNamespace(s)
	return err
}

func isFilter(s string) error {
	_, err := replicate.ParseFilter(s)
	return err
}

func isAuthID(s string) error {
	_, err := names.ParseAuthID(s)
	return err
}
