package jobs

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/upid"
	"github.com/holdfast-backup/holdfast/internal/keystore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/server/tasks"
)

// State is what is known of the last run of a job.
type State struct {
	Created int64        // when it was made; 0 once it has run
	UPID    upid.UPID    // of its last run; the zero value: none
	End     *tasks.State // how that ended; nil: it runs, or nobody has looked since it died
	Updated int64        // when it was changed since; 0: it was not
}

// Last is from when on its schedule counts.
func (s State) Last() time.Time {
	switch {
	case s.UPID.IsZero():
		return time.Unix(s.Created, 0)
	case s.Updated != 0:
		return time.Unix(s.Updated, 0)
	}
	return s.UPID.Start()
}

// Running reports whether it was started, and nobody knows its end.
func (s State) Running() bool { return !s.UPID.IsZero() && s.End == nil }

// The form in the file.
type (
	stateJSON struct {
		Created  *createdJSON  `json:"created,omitempty"`
		Started  *startedJSON  `json:"started,omitempty"`
		Finished *finishedJSON `json:"finished,omitempty"`
	}
	createdJSON struct {
		Time int64 `json:"time"`
	}
	startedJSON struct {
		UPID string `json:"upid"`
	}
	finishedJSON struct {
		UPID    string             `json:"upid"`
		State   map[string]endJSON `json:"state"`
		Updated *int64             `json:"updated"`
	}
	endJSON struct {
		End     int64   `json:"endtime"`
		Count   *int    `json:"count,omitempty"`
		Message *string `json:"message,omitempty"`
	}
)

// words are the kinds of ends in the file.
var words = map[tasks.Kind]string{tasks.OK: "OK", tasks.Warned: "Warning", tasks.Failed: "Error", tasks.Unknown: "Unknown"}

// Marshal returns the JSON of a state.
func (s State) Marshal() ([]byte, error) {
	var j stateJSON
	switch {
	case s.UPID.IsZero():
		j.Created = &createdJSON{s.Created}
	case s.End == nil:
		j.Started = &startedJSON{s.UPID.String()}
	default:
		end := endJSON{End: s.End.End}
		switch s.End.Kind {
		case tasks.Warned:
			end.Count = &s.End.Warnings
		case tasks.Failed:
			end.Message = &s.End.Text
		}
		j.Finished = &finishedJSON{UPID: s.UPID.String(), State: map[string]endJSON{words[s.End.Kind]: end}}
		if s.Updated != 0 {
			j.Finished.Updated = &s.Updated
		}
	}
	return json.Marshal(j)
}

// ParseState reads the JSON of a state.
func ParseState(text []byte) (s State, err error) {
	var j stateJSON
	if err := json.Unmarshal(text, &j); err != nil {
		return s, fmt.Errorf("state of a job: %w", err)
	}
	switch {
	case j.Created != nil && j.Started == nil && j.Finished == nil:
		return State{Created: j.Created.Time}, nil
	case j.Created == nil && j.Started != nil && j.Finished == nil:
		s.UPID, err = upid.Parse(j.Started.UPID)
	case j.Created == nil && j.Started == nil && j.Finished != nil:
		if s.UPID, err = upid.Parse(j.Finished.UPID); err != nil {
			break
		}
		if j.Finished.Updated != nil {
			s.Updated = *j.Finished.Updated
		}
		s.End, err = endOf(j.Finished.State)
	default:
		err = errors.New("want one of created, started and finished")
	}
	if err != nil {
		return State{}, fmt.Errorf("state of a job: %w", err)
	}
	return s, nil
}

func endOf(m map[string]endJSON) (*tasks.State, error) {
	for kind, word := range words {
		end, ok := m[word]
		if !ok || len(m) != 1 {
			continue
		}
		s := tasks.State{Kind: kind, End: end.End}
		if kind == tasks.Warned && end.Count != nil {
			s.Warnings = *end.Count
		}
		if kind == tasks.Failed && end.Message != nil {
			s.Text = *end.Message
		}
		return &s, nil
	}
	return nil, errors.New("its end is not one of OK, Warning, Error and Unknown")
}

// States is the directory with the states of jobs. It is safe for concurrent use.
type States struct{ dir string }

// OpenStates returns the states in a directory, which it makes if need be.
func OpenStates(dir string) (States, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return States{}, fmt.Errorf("states of jobs: %w", err)
	}
	return States{dir}, nil
}

// maxState bounds a file, in bytes.
const maxState = 1 << 20

// Load returns the state of a job; ok is false if there is none, or none that can
// be read: then it counts as made now.
func (d States) Load(key string) (s State, ok bool, err error) {
	text, err := keystore.Read(d.path(key), maxState)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, false, nil
	}
	if err != nil {
		return State{}, false, err
	}
	s, err = ParseState(text)
	return s, err == nil, nil
}

// Save replaces the state of a job.
func (d States) Save(key string, s State) error {
	text, err := s.Marshal()
	if err != nil {
		return err
	}
	return keystore.Put(d.path(key), text, true, maxState, rand.Reader)
}

// Touch says that a job was changed: its schedule counts from now on.
func (d States) Touch(key string, now time.Time) error {
	s, ok, err := d.Load(key)
	switch {
	case err != nil || ok && s.Running():
		return err
	case ok && !s.UPID.IsZero():
		s.Updated = now.Unix()
	default:
		s = State{Created: now.Unix()}
	}
	return d.Save(key, s)
}

// Forget removes the state of a job that is no more.
func (d States) Forget(key string) error {
	unlock, err := d.Lock(key)
	if err != nil {
		return err
	}
	err = os.Remove(d.path(key))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, os.Remove(d.lockPath(key)), unlock())
}

func (d States) path(key string) string     { return filepath.Join(d.dir, key+".json") }
func (d States) lockPath(key string) string { return filepath.Join(d.dir, key+".lck") }

// ErrRunning is wrapped when a job runs already.
var ErrRunning = fmt.Errorf("it runs already: %w", repo.ErrLocked)
