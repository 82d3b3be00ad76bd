package server

import (
	"context"

	"github.com/holdfast-backup/holdfast/internal/notify"
	"github.com/holdfast-backup/holdfast/internal/server/api"
	"github.com/holdfast-backup/holdfast/internal/server/jobs"
)

// tapeJobCalls are the calls about what backups to tape did and do.
func (s *Server) tapeJobCalls() []api.Call {
	return []api.Call{
		{
			Method: "GET", Path: "/tape/backup", Doc: "List tape jobs, when they run next, on which medium, and how they ended.",
			Guard: api.LoggedIn(seeTapeJobs), Params: []api.AnyParam{params.store.Optional()}, Do: api.Data(s.tapeRuns),
		},
		{
			Method: "POST", Path: "/tape/backup/{id}", Doc: "Run a tape job now. The task is the answer.", Guard: api.LoggedIn(runTape),
			Params: []api.AnyParam{jobID},
			Do:     api.Data(func(_ context.Context, r *api.Request) (string, error) { return s.runJob(r, jobs.Tape) }),
		},
	}
}

func (s *Server) tapeRuns(_ context.Context, r *api.Request) ([]map[string]any, error) {
	list, err := s.jobRuns(r, jobs.Tape)
	for _, item := range list {
		if id, ok := item["id"].(string); ok {
			if label := s.tapes.NextLabel(id); label != "" {
				item["next-media-label"] = label
			}
		}
	}
	return list, err
}

// tapeLoad is the type of the message that a drive waits for a medium.
const tapeLoad = "tape-load"

// mediumWanted tells people what they have to do at a drive.
func (s *Server) mediumWanted(drive, what string) {
	s.log.Warn("a drive waits for somebody", "drive", drive, "what", what)
	if s.opt.Silent {
		return
	}
	c, err := s.Notifications()
	if err != nil {
		s.log.Error("nobody was notified of a drive that waits", "drive", drive, "error", err)
		return
	}
	_ = c.Send(s.life, notify.Message{ // it logs what fails
		Severity: notify.Notice, Time: s.now(), Title: "Drive " + drive + " on " + s.opt.Node + " waits for a medium", Text: what + "\n",
		Fields: map[string]string{"type": tapeLoad, "hostname": s.opt.Node, "drive": drive},
	})
}
