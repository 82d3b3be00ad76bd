package qemu

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// scratchImage makes a qcow2 image whose backing file is the disk, without
// saying so in its header.
func (p *point) scratchImage(ctx context.Context, d *drive) error {
	if err := p.newScratch(ctx, d, d.node(scratchFile), 0); err != nil {
		return err
	}
	id := d.node(createJob)
	if err := p.g.run(ctx, "blockdev-create", obj{"job-id": id, "options": obj{
		"driver": "qcow2", "file": d.node(scratchFile), "size": d.Size, "version": "v3",
	}}); err != nil {
		return err
	}
	if err := p.finishJob(ctx, id); err != nil {
		return err
	}
	if p.reserved {
		if err := reserve(d.scratch, d.Size+qcow2Overhead(d.Size)); err != nil {
			return err
		}
	}
	return p.g.run(ctx, "blockdev-add", obj{
		"driver": "qcow2", "node-name": d.node(scratchNode), "file": d.node(scratchFile), "backing": d.Node,
	})
}

// qcow2Overhead is more than the tables of an image with clusters of 64 KiB:
// 8 bytes of L2 and 2 of refcounts a cluster, and some clusters at the start.
func qcow2Overhead(size int64) int64 { return size/4096 + 4<<20 }

// jobInfo is what query-jobs says.
type jobInfo struct {
	ID     string
	Status string
	Error  string
}

func (g *Guest) jobs(ctx context.Context) (map[string]jobInfo, error) {
	var list []jobInfo
	if err := g.qmp.Run(ctx, "query-jobs", nil, &list); err != nil {
		return nil, err
	}
	all := map[string]jobInfo{}
	for _, j := range list {
		all[j.ID] = j
	}
	return all, nil
}

// finishJob waits for a job that ends by itself.
func (p *point) finishJob(ctx context.Context, id string) error {
	changed := p.g.qmp.Subscribe("JOB_STATUS_CHANGE")
	defer changed.Close()
	for {
		all, err := p.g.jobs(ctx)
		if err != nil {
			return err
		}
		j, ok := all[id]
		if !ok {
			return fmt.Errorf("the job %s in QEMU has vanished", id)
		}
		if j.Status == "concluded" {
			if err := p.g.run(ctx, "job-dismiss", obj{"id": id}); err != nil {
				return err
			}
			if j.Error != "" {
				return errors.New(j.Error)
			}
			return nil
		}
		wait, cancel := context.WithTimeout(ctx, time.Second/2)
		_, _ = changed.Next(wait) // the state counts, not the event
		cancel()
	}
}

// holdByJobs does it in one transaction.
func (p *point) holdByJobs(ctx context.Context) error {
	actions := p.bitmapActions()
	for i := range p.drives {
		d := &p.drives[i]
		d.access = d.node(scratchNode)
		data := obj{
			"job-id": d.node(backupJob), "device": d.Node, "target": d.access, "sync": "none",
			"auto-dismiss": false, // so that its error can be read
		}
		if !p.reserved {
			data["on-cbw-error"] = "break-snapshot"
		}
		actions = append(actions, obj{"type": "blockdev-backup", "data": data})
	}
	return p.g.run(ctx, "transaction", obj{"actions": actions})
}

// jobsRun reports a job that no longer copies what the guest overwrites.
func (p *point) jobsRun(ctx context.Context) error {
	all, err := p.g.jobs(ctx)
	if err != nil {
		return err
	}
	for i := range p.drives {
		d := &p.drives[i]
		j, ok := all[d.node(backupJob)]
		switch {
		case !ok:
			return fmt.Errorf("disk %s: its job in QEMU has vanished", d.Name)
		case j.Error != "":
			return fmt.Errorf("disk %s: its job in QEMU failed: %s", d.Name, j.Error)
		case j.Status != "running" && j.Status != "paused":
			return fmt.Errorf("disk %s: its job in QEMU is %s", d.Name, j.Status)
		}
	}
	return nil
}
