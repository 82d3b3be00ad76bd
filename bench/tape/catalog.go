//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
	"github.com/holdfast-backup/holdfast/internal/tape/media"
)

// jobs are what is measured, in the order of a round, and says how they are called.
var jobs = []string{"chunk", "snapshot", "list", "kept"}

var says = map[string]string{
	"chunk":    "one chunk among 1,000,000 of a media set, from its catalogs",
	"snapshot": "one snapshot of it, from its catalogs",
	"list":     "the snapshots of a tape of it with 500,000 chunks",
	"kept":     "the same once more",
}

const (
	tapes    = 2
	archives = 250 // of a tape
	chunks   = 2000
)

var mediaSet = uuid.MustParse("9da37a55-aac7-4deb-91c6-482b3b675f30")

func chunk(n int) digest.Digest { return digest.Of(binary.BigEndian.AppendUint64(nil, uint64(n))) }

func snapshot(n int) names.Snapshot {
	return names.Snapshot{Group: names.Group{Type: names.VM, ID: "100"}, Time: 1_700_000_000 + int64(n)*3600}
}

// fill makes the media set.
func fill(ctx context.Context, dir string) error {
	s, err := media.Open(dir, time.UTC)
	if err != nil {
		return err
	}
	list := make([]digest.Digest, chunks)
	for t := range tapes {
		label := tapefile.Label{UUID: uuid.New(), Text: fmt.Sprintf("TAPE%02dL8", t), Pool: "daily"}
		set := &tapefile.SetLabel{Pool: "daily", UUID: mediaSet, Seq: uint64(t), Ctime: int64(t)}
		if err := s.Store(ctx, label, set, false); err != nil {
			return err
		}
		c, err := s.NewCatalog(media.Medium{Label: label, Set: set})
		if err != nil {
			return err
		}
		for a := range archives {
			n := t*archives + a
			for i := range list {
				list[i] = chunk(n*chunks + i)
			}
			err = errors.Join(err,
				c.AddArchive(c.NextFile(), uuid.New(), "store1", list),
				c.AddSnapshot(c.NextFile(), uuid.New(), "store1", snapshot(n)))
		}
		if err := errors.Join(err, c.Commit(), c.Close()); err != nil {
			return err
		}
	}
	return nil
}

// forgetLists removes the lists that are kept beside catalogs.
func forgetLists(dir string) error {
	kept, err := filepath.Glob(filepath.Join(dir, "*.index"))
	for _, name := range kept {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}

// work does one job.
func work(ctx context.Context, dir, job string) (err error) {
	switch job {
	case "fill":
		return fill(ctx, dir)
	case "store":
		return fillStore(ctx, dir)
	case "plain":
		return plainRead(ctx, dir)
	case "feed":
		return feedDrive(ctx, dir)
	}
	s, err := media.Open(dir, time.UTC)
	if err != nil {
		return err
	}
	inv, err := s.Inventory()
	if err != nil {
		return err
	}
	set, err := inv.SetMedia(mediaSet)
	if err != nil {
		return err
	}
	if job == "list" || job == "kept" {
		list, err := s.Snapshots(set[1])
		if err == nil && len(list) != archives {
			err = fmt.Errorf("%d snapshots", len(list))
		}
		return err
	}
	c, err := s.Contents(set)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	var at media.At
	if job == "chunk" {
		at, _, err = c.Chunk("store1", chunk(tapes*archives*chunks-1))
	} else {
		at, _, err = c.Snapshot("store1", snapshot(tapes*archives-1))
	}
	if err == nil && at.Medium != set[tapes-1].UUID() {
		err = fmt.Errorf("it was found at %+v", at)
	}
	return err
}
