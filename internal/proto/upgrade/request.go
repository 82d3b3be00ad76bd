package upgrade

import (
	"math"
	"net/url"
	"strconv"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
)

// Request is what a client says when it asks for a session: the query of its
// request.
type Request struct {
	Store     string
	Snapshot  names.Snapshot // the one to be, or the one to be read
	Debug     bool           // the task's log is to name every call
	Benchmark bool           // nothing is to be kept
	NoCache   bool           // chunks are not to go through a cache
}

// ParseRequest reads the parameters. Its errors have status 400.
func ParseRequest(p *rest.Params) (Request, error) {
	r := Request{
		Store: rest.Need(p, "store", func(s string) (string, error) { return s, names.CheckStore(s) }),
		Snapshot: names.Snapshot{
			NS: rest.Get(p, "ns", names.Root, names.ParseNamespace),
			Group: names.Group{
				Type: rest.Need(p, "backup-type", names.ParseType),
				ID:   rest.Need(p, "backup-id", rest.Text),
			},
			Time: rest.Need(p, "backup-time", rest.Int(names.MinTime, math.MaxInt64)),
		},
		Debug:     rest.Get(p, "debug", false, rest.Bool),
		Benchmark: rest.Get(p, "benchmark", false, rest.Bool),
		NoCache:   rest.Get(p, "no-cache", false, rest.Bool),
	}
	if err := p.Err(); err != nil {
		return Request{}, err
	}
	if err := r.Snapshot.Check(); err != nil {
		return Request{}, rest.Errorf(400, "parameter verification failed - %w", err)
	}
	return r, nil
}

// Values is the inverse of ParseRequest. What older servers do not know is left
// out unless it is asked for.
func (r Request) Values() url.Values {
	q := url.Values{
		"store":       {r.Store},
		"backup-type": {string(r.Snapshot.Type)},
		"backup-id":   {r.Snapshot.ID},
		"backup-time": {strconv.FormatInt(r.Snapshot.Time, 10)},
	}
	if r.Snapshot.NS != names.Root {
		q.Set("ns", string(r.Snapshot.NS))
	}
	for name, set := range map[string]bool{"debug": r.Debug, "benchmark": r.Benchmark, "no-cache": r.NoCache} {
		if set {
			q.Set(name, "true")
		}
	}
	return q
}
