package cli

import (
	"context"
	"strconv"
	"time"

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
		{Title: "DEVICE"}, {Title: "NAME"}, {Title: "SNAPSHOT"}, {Title: "SIZE", Align: ui.Right}, {Title: "ACCESS"},
		{Title: "SINCE"}, {Title: "PID", Align: ui.Right}, {Title: "READ", Align: ui.Right}, {Title: "WRITTEN", Align: ui.Right},
		{Title: "ERRORS", Align: ui.Right}, {Title: "STATE"},
	}}
	for _, m := range list {
		access := "read-only"
		if !m.ReadOnly {
			access = "writable"
		}
		t.Add(m.Target(), m.Name, m.Snapshot, ui.Rough(m.Size), access, m.Created.Format(time.RFC3339), strconv.Itoa(m.PID),
			ui.Rough(m.Counters.ReadBytes), ui.Rough(m.Counters.WriteBytes), strconv.FormatInt(m.Counters.Errors, 10), string(m.State))
	}
	return a.print(list, func() error {
		if len(list) == 0 {
			return a.printf("Nothing mapped.\n")
		}
		return a.table(&t)
	})
}
