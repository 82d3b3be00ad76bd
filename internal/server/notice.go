package server

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/upid"
	"github.com/holdfast-backup/holdfast/internal/notify"
	"github.com/holdfast-backup/holdfast/internal/server/jobs"
	"github.com/holdfast-backup/holdfast/internal/server/tasks"
)

// jobEnded tells people how a job ended.
func (s *Server) jobEnded(j jobs.Job, id upid.UPID, end tasks.State) {
	if s.opt.JobEnded != nil {
		s.opt.JobEnded(j, id, end)
	}
	if s.opt.Silent {
		return
	}
	c, err := s.Notifications()
	if err != nil {
		s.log.Error("nobody was notified of a job", "job", j.Key(), "error", err)
		return
	}
	m := s.notice(j, id, end)
	if j.Kind == jobs.Tape {
		m.Fields["media-pool"] = j.Pool()
		if user, mailed := j.MailTo(); mailed {
			_ = c.Mail(s.life, user, m) // it logs what fails
		} else {
			_ = c.Send(s.life, m) // the same
		}
		return
	}
	if config, err := s.stores.Find(j.Store); err == nil {
		if mailing, ok := config.Mailing(); ok {
			if mailing.Wants(deeds[j.Kind].typ, end.Kind == tasks.OK) {
				_ = c.Mail(s.life, mailing.User, m) // it logs what fails
			}
			return
		}
	}
	_ = c.Send(s.life, m) // the same
}

// Notifications are those that the configuration asks for now.
func (s *Server) Notifications() (*notify.Config, error) {
	return notify.Load(s.opt.Config, s.noticeOptions())
}

func (s *Server) noticeOptions() notify.Options {
	return notify.Options{
		Sendmail: s.opt.Sendmail, Hostname: s.opt.Node, Location: s.opt.Location, Log: s.log, Address: s.mailOf,
	}
}

// mailOf is the e-mail address of a user, "" if there is none.
func (s *Server) mailOf(userid string) string {
	id, err := names.ParseAuthID(userid)
	if err != nil {
		return ""
	}
	users, _, err := s.store.Users()
	if err != nil {
		return ""
	}
	a, err := users.Find(id)
	if err != nil {
		return ""
	}
	return a.Email
}

// deeds are what jobs are called in messages, and the types that matchers look
// at, which are the keys in the property notify of a datastore too.
var deeds = map[jobs.Kind]struct{ name, typ string }{
	jobs.GC:       {"Garbage collection", "gc"},
	jobs.OldPrune: {"Pruning", "prune"},
	jobs.Prune:    {"Pruning", "prune"},
	jobs.Verify:   {"Verification", "verify"},
	jobs.Sync:     {"Sync", "sync"},
	jobs.Tape:     {"Backup to tape", "tape-backup"},
}

func (s *Server) notice(j jobs.Job, id upid.UPID, end tasks.State) notify.Message {
	deed := deeds[j.Kind]
	m := notify.Message{
		Severity: notify.Error, Time: time.Unix(end.End, 0),
		Fields: map[string]string{"type": deed.typ, "datastore": j.Store, "hostname": s.opt.Node},
	}
	outcome := "failed"
	switch end.Kind {
	case tasks.OK:
		m.Severity, outcome = notify.Info, "done"
	case tasks.Warned:
		m.Severity, outcome = notify.Warning, "done with warnings"
	case tasks.Unknown:
		outcome = "broke off"
	}
	name := "datastore '" + j.Store + "'"
	if j.ID != j.Store {
		m.Fields["job-id"] = j.ID
		name += ", job '" + j.ID + "'"
	}
	m.Title = fmt.Sprintf("%s of %s on %s: %s", deed.name, name, s.opt.Node, outcome)
	var b strings.Builder
	for _, l := range [][2]string{
		{"Job", deed.name + " " + j.ID},
		{"Comment", j.Comment},
		{"Datastore", j.Store},
		{"Server", s.opt.Node},
		{"Started", id.Start().In(s.opt.Location).Format(time.RFC3339)},
		{"Ended", m.Time.In(s.opt.Location).Format(time.RFC3339)},
		{"Result", end.String()},
		{"Task", id.String()},
	} {
		if l[1] != "" {
			fmt.Fprintf(&b, "%-11s%s\n", l[0]+":", l[1])
		}
	}
	b.WriteString("\n")
	s.quote(&b, id)
	m.Text = b.String()
	return m
}

// quoted is how many of the last lines of a log are in a message.
const quoted = 200

// quote writes the end of a task's log.
func (s *Server) quote(b *strings.Builder, id upid.UPID) {
	total, err := s.tasks.Lines(id, math.MaxInt, 1, func(int, string) error { return nil })
	if err != nil {
		fmt.Fprintf(b, "The log cannot be read: %v\n", err)
		return
	}
	if total > quoted {
		fmt.Fprintf(b, "The last %d of %d lines of the log:\n", quoted, total)
	}
	_, err = s.tasks.Lines(id, max(1, total-quoted+1), 0, func(_ int, text string) error {
		b.WriteString(text + "\n")
		return nil
	})
	if err != nil {
		fmt.Fprintf(b, "The rest cannot be read: %v\n", err)
	}
}
