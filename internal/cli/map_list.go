package cli

import (
	"context"
	"strconv"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/mapping"
	"github.com/holdfast-backup/holdfast/internal/ui"
)

func runMapList(ctx context.Context, a *app) error {
	list, err := mapping.List(ctx, "")
	if err != nil {
		return err
	}
	if list == nil {
		list = []mapping.Status{}
	}
	t := ui.Table{Columns: []ui.Column{
		{Title: "DEVICE"},
		{Title: "SNAPSHOT"},
		{Title: "ARCHIVE"},
		{Title: "SIZE", Align: ui.Right},
		{Title: "ACCESS"},
		{Title: "SINCE"},
		{Title: "PID", Align: ui.Right},
		{Title: "READ", Align: ui.Right},
		{Title: "WRITTEN", Align: ui.Right},
		{Title: "ERRORS", Align: ui.Right},
		{Title: "STATE"},
		{Title: "NAME"},
	}}
	for _, m := range list {
		access := "read-only"
		if !m.ReadOnly {
			access = "writable"
		}
		t.Add(m.Target(), m.Snapshot, names.Archive(m.Archive).ClientName(), ui.Rough(m.Size), access, m.Created.Format(time.RFC3339), strconv.Itoa(m.PID),
			ui.Rough(m.Counters.ReadBytes), ui.Rough(m.Counters.WriteBytes), strconv.FormatInt(m.Counters.Errors, 10), string(m.State), m.Name)
	}
	return a.print(list, func() error {
		if len(list) == 0 {
			return a.printf("Nothing mapped.\n")
		}
		return a.table(&t)
	})
}
