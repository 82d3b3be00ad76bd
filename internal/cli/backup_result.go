package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/ui"
)

// backupJSON is the outcome of a backup.
type backupJSON struct {
	Snapshot    string        `json:"snapshot"`
	Namespace   string        `json:"ns,omitempty"`
	Type        string        `json:"backup-type"`
	ID          string        `json:"backup-id"`
	Time        int64         `json:"backup-time"`
	Previous    string        `json:"previous,omitempty"`
	Fingerprint string        `json:"fingerprint,omitempty"`
	Seconds     float64       `json:"elapsed"`
	Archives    []archiveJSON `json:"archives"`
	Total       statsJSON     `json:"total"`

	Disks []guestDiskJSON `json:"disks,omitempty"` // of a running guest
}

type archiveJSON struct {
	fileJSON
	Stats      statsJSON   `json:"stats"`
	NotReused  string      `json:"not-reused,omitempty"`
	Unreadable []rangeJSON `json:"unreadable,omitempty"`
	Tree       *treeJSON   `json:"tree,omitempty"`
}

type statsJSON struct {
	Read      int64 `json:"read"`      // bytes read from the sources
	New       int64 `json:"new"`       // of them not known before
	Encoded   int64 `json:"encoded"`   // what these take in the repository
	Known     int64 `json:"known"`     // read, and known
	Unchanged int64 `json:"unchanged"` // not read: taken over from the previous snapshot
	Zero      int64 `json:"zero"`
}

type rangeJSON struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

func statsOf(s backup.Stats) statsJSON {
	return statsJSON{s.Read, s.Stored.Bytes, s.Encoded, s.Known.Bytes, s.Unchanged.Bytes, s.Zero.Bytes}
}

func rangesOf(d image.Damage) []rangeJSON {
	var out []rangeJSON
	for _, r := range d.Ranges {
		out = append(out, rangeJSON{r.Offset, r.Length})
	}
	return out
}

func (a *app) showBackup(rep backup.Report, crypt cryptChoice) error {
	return a.showBackupWith(rep, crypt, nil)
}

func (a *app) showBackupWith(rep backup.Report, crypt cryptChoice, disks []guestDiskJSON) error {
	s := rep.Snapshot
	out := backupJSON{
		Snapshot: show(s), Namespace: s.NS.String(), Type: string(s.Type), ID: s.ID, Time: s.Time,
		Previous: rep.Previous, Seconds: rep.Elapsed.Seconds(), Total: statsOf(rep.Total),
		Disks: disks,
	}
	if crypt.key != nil {
		out.Fingerprint = crypt.key.Fingerprint().String()
	}
	t := ui.Table{Columns: []ui.Column{
		{Title: "ARCHIVE"},
		{Title: "SIZE", Align: ui.Right},
		{Title: "READ", Align: ui.Right},
		{Title: "NEW", Align: ui.Right},
		{Title: "STORED", Align: ui.Right},
		{Title: "KNOWN", Align: ui.Right},
		{Title: "UNCHANGED", Align: ui.Right},
		{Title: "EMPTY", Align: ui.Right},
	}}
	for _, r := range rep.Archives {
		f := r.Archive
		out.Archives = append(out.Archives, archiveJSON{
			fileJSON{f.Filename, string(f.CryptMode), f.Size, f.Csum.String()}, statsOf(r.Stats), r.NotReused, rangesOf(r.Unreadable), treeOf(r.Tree),
		})
		t.Add(f.Archive().ClientName(), ui.Size(int64(f.Size)), ui.Size(r.Stats.Read), ui.Size(r.Stats.Stored.Bytes),
			ui.Size(r.Stats.Encoded), ui.Size(r.Stats.Known.Bytes), ui.Size(r.Stats.Unchanged.Bytes), ui.Size(r.Stats.Zero.Bytes))
		if r.NotReused != "" {
			a.say("%s is read in full, the previous snapshot is no help: %s", f.Archive().ClientName(), r.NotReused)
		}
		a.showUnreadable(f.Archive(), r.Unreadable)
	}
	return a.print(out, func() error {
		if err := a.table(&t); err != nil {
			return err
		}
		for _, r := range rep.Archives {
			if r.Tree != nil {
				name := r.Archive.Archive().ClientName()
				if err := a.printf("%s\n", treeLine(strings.Replace(name, ".mpxar", ".pxar", 1), r.Tree)); err != nil {
					return err
				}
			}
		}
		how := "not encrypted"
		if crypt.key != nil {
			how = string(crypt.mode) + ", key " + crypt.key.Fingerprint().Short()
		}
		return a.printf("snapshot %s in %s (%s)\n", show(s), ui.Duration(rep.Elapsed), how)
	})
}

// showUnreadable lists what reads as zeros because it could not be read.
func (a *app) showUnreadable(name names.Archive, d image.Damage) {
	if d.Total == 0 {
		return
	}
	for _, r := range d.Ranges {
		a.warn("%s: unreadable at offset %d, %d bytes: zeros are stored instead", name.ClientName(), r.Offset, r.Length)
	}
	if d.More {
		a.warn("%s: and further ranges; %s in all", name.ClientName(), ui.Size(d.Total))
	}
}

// backupVerdict is an error when something could not be read.
func backupVerdict(rep backup.Report) error {
	if !rep.Incomplete() {
		return nil
	}
	var n, problems int64
	for _, r := range rep.Archives {
		n += r.Unreadable.Total
		if r.Tree != nil {
			problems += r.Tree.Problems
		}
	}
	if n == 0 {
		return hint(
			fmt.Errorf("%w: %s in directories, listed above", errSkipped, plural(problems, "problem")),
			"the rest is in the snapshot; exclude what need not be there",
		)
	}
	return hint(
		fmt.Errorf("%w: %s of the sources could not be read and are zeros in the snapshot", errSkipped, ui.Size(n)),
		"check the disk; the list of sectors is above",
	)
}

// showPlan is the result of a dry run.
func (a *app) showPlan(job backup.Job, sources *backupSources) error {
	type planned struct {
		Filename string `json:"filename"`
		Source   string `json:"source"`
		Size     int64  `json:"size"`
	}
	out := []planned{}
	t := ui.Table{Columns: []ui.Column{{Title: "ARCHIVE"}, {Title: "SIZE", Align: ui.Right}, {Title: "SOURCE"}}}
	for _, b := range sources.all {
		size := b.size()
		text := "unknown"
		if size >= 0 {
			text = ui.Size(size)
		}
		out = append(out, planned{string(b.archive), b.path, size})
		t.Add(b.archive.ClientName(), text, b.path)
	}
	mode := string(job.Options.CryptMode)
	return a.print(map[string]any{"snapshot": show(job.Snapshot), "crypt-mode": mode, "archives": out}, func() error {
		if err := a.table(&t); err != nil {
			return err
		}
		return a.printf("would make snapshot %s, crypt mode %s, %s archives; nothing was stored\n", show(job.Snapshot), mode, strconv.Itoa(len(out)))
	})
}
