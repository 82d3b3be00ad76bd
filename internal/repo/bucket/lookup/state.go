package lookup

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/format/packindex"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

// barred are the packs that a session may not use which begins now.
func barred(state catalog.Reader) (map[pack.ID]bool, error) {
	all := map[pack.ID]bool{}
	for key, raw := range state.Scan(catalog.DeadPrefix) {
		dead, err := catalog.Parse[catalog.Dead](key, raw)
		if err != nil {
			return nil, err
		}
		for _, id := range dead.Packs {
			all[id] = true
		}
	}
	for key := range state.Scan(catalog.MovedPrefix) {
		id, err := pack.ParseID(strings.TrimPrefix(key, catalog.MovedPrefix))
		if err != nil {
			return nil, badKey(key, err)
		}
		all[id] = true
	}
	for key, raw := range state.Scan(catalog.RunPrefix) {
		r, err := catalog.Parse[catalog.Run](key, raw)
		if err != nil {
			return nil, err
		}
		for _, id := range r.Void {
			all[id] = true
		}
	}
	return all, nil
}

// run is an index that counts.
type run struct {
	catalog.Run
	key string // of the object
}

// runs are those of which something can be found, the newest first.
func runs(state catalog.Reader) ([]run, error) {
	var all []run
	for key, raw := range state.Scan(catalog.RunPrefix) {
		session, number, err := parseRunKey(key)
		if err != nil {
			return nil, badKey(key, err)
		}
		r, err := catalog.Parse[catalog.Run](key, raw)
		if err != nil {
			return nil, err
		}
		if r.Last == 0 {
			r.Last = session
		}
		if r.Head > 0 && r.Head <= packindex.MaxHead && r.Bytes > r.Head {
			all = append(all, run{r, catalog.IndexKey(session, number)})
		}
	}
	slices.SortStableFunc(all, func(a, b run) int { return cmp.Compare(b.Last, a.Last) })
	return all, nil
}

func parseRunKey(key string) (catalog.Number, uint32, error) {
	session, number, ok := strings.Cut(strings.TrimPrefix(key, catalog.RunPrefix), "/")
	if !ok {
		return 0, 0, fmt.Errorf("want %s<session>/<number>", catalog.RunPrefix)
	}
	n, err := catalog.ParseNumber(session)
	if err != nil {
		return 0, 0, err
	}
	i, err := strconv.ParseUint(number, 16, 32)
	return n, uint32(i), err
}

func badKey(key string, err error) error {
	return &repo.CorruptError{What: fmt.Sprintf("key %q of the repository", key), Err: err}
}
