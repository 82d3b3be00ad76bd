package backupserver

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/proto/repoerr"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
)

// call answers one kind of call. It returns the data of the answer, or errSent
// when it has answered itself.
type call func(b *Session, w http.ResponseWriter, r *http.Request) (any, error)

var errSent = errors.New("answered already")

// calls returns what there is, by path and method.
func calls() map[string]map[string]call {
	return map[string]map[string]call{
		"blob":                 {"POST": (*Session).blob},
		"dynamic_index":        {"POST": (*Session).createDynamic, "PUT": (*Session).appendDynamic},
		"fixed_index":          {"POST": (*Session).createFixed, "PUT": (*Session).appendFixed},
		"dynamic_chunk":        {"POST": (*Session).dynamicChunk},
		"fixed_chunk":          {"POST": (*Session).fixedChunk},
		"dynamic_close":        {"POST": (*Session).closeDynamic},
		"fixed_close":          {"POST": (*Session).closeFixed},
		"previous":             {"GET": (*Session).previous},
		"previous_backup_time": {"GET": (*Session).previousTime},
		"speedtest":            {"POST": (*Session).speedtest},
		"finish":               {"POST": (*Session).finish},
	}
}

// ServeHTTP answers one call. An error ends the call and not the session.
func (b *Session) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	data, err := b.dispatch(w, r)
	if errors.Is(err, errSent) {
		return
	}
	// A client that is still sending would see its stream reset, and no message.
	if _, derr := io.Copy(io.Discard, r.Body); derr != nil {
		return // it is gone
	}
	if err != nil {
		b.note("%s %s: %v", r.Method, r.URL.Path, err)
		rest.Fail(w, repoerr.ToWire(err))
		return
	}
	if err := rest.Reply(w, data); err != nil {
		b.conf.Trouble.Debug("answer lost", "call", r.URL.Path, "error", err)
	}
}

func (b *Session) dispatch(w http.ResponseWriter, r *http.Request) (any, error) {
	if b.conf.Request.Debug {
		b.note("%s %s", r.Method, r.URL.RequestURI())
	}
	path, err := rest.Path(r)
	if err != nil {
		return nil, err
	}
	all := calls()
	if len(path) == 0 && r.Method == http.MethodGet {
		return listing(all), nil
	}
	if len(path) == 1 {
		if f, ok := all[path[0]][r.Method]; ok {
			return f(b, w, r)
		}
	}
	return nil, rest.Errorf(http.StatusNotFound, "Path '%s' not found for %s.", r.URL.Path, r.Method)
}

func listing(all map[string]map[string]call) any {
	type entry struct {
		Name string `json:"subdir"`
	}
	var names []string
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	var entries []entry
	for _, n := range names {
		entries = append(entries, entry{n})
	}
	return entries
}

// speedtest takes anything: ServeHTTP reads it.
func (b *Session) speedtest(http.ResponseWriter, *http.Request) (any, error) { return nil, nil }

// finish makes the snapshot visible, and gives its locks back before the client
// hears of it: the next backup may come at once.
func (b *Session) finish(_ http.ResponseWriter, r *http.Request) (any, error) {
	b.gate.Lock()
	defer b.gate.Unlock()
	if err := b.over(); err != nil {
		return nil, err
	}
	m, err := b.complete()
	if err != nil {
		return nil, err
	}
	if err := b.ses.Finish(r.Context(), m); err != nil {
		return nil, err
	}
	b.finished = true
	if s := m.UploadStats(); s != nil {
		b.log("upload statistics: %d chunks, %d bytes, %d bytes compressed, %d duplicates", s.Count, s.Size, s.CompressedSize, s.Duplicates)
	}
	b.log("successfully finished backup")
	return nil, nil
}

func wrongWriter(wid int) error {
	return fmt.Errorf("writer %d is not open, or of the other kind", wid)
}
