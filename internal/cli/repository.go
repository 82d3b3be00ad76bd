package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/repo"
)

// parseLocation reads the value of --repository and returns the path of a
// directory:
//
//	dir:PATH                                 PATH, whatever it looks like
//	/abs, ./rel, ../rel, ., .., any/thing    a directory
//	[[user@realm[!token]@]host[:port]:]store a server, which this build cannot open
//	name.with.dots                           a directory
func parseLocation(s string) (string, error) {
	if path, ok := strings.CutPrefix(s, "dir:"); ok {
		if path == "" {
			return "", usagef("--repository %q names no directory", s)
		}
		return path, nil
	}
	separators := "/" + string(filepath.Separator)
	switch {
	case s == "":
		return "", usagef("the repository is empty")
	case strings.ContainsAny(s, separators), s == ".", s == "..":
		return s, nil
	case strings.ContainsAny(s, ":@"):
		return "", hint(
			usagef("%q is the address of a server, and this build opens repositories in directories only", s),
			"name a directory, such as --repository /mnt/backup or --repository dir:PATH",
		)
	case strings.Contains(s, "."):
		return s, nil
	}
	return "", hint(
		usagef("%q is the name of a server's datastore, and this build opens repositories in directories only", s),
		"if you mean the directory, write ./%s or dir:%s", s, s,
	)
}

// location returns the path of the repository that flags and environment name.
func (a *app) location() (string, error) {
	where := a.repository
	if where == "" {
		where = a.getenv("HOLDFAST_REPOSITORY", "PBS_REPOSITORY")
	}
	if where == "" {
		return "", hint(usagef("no repository is named"), "pass --repository DIR or set HOLDFAST_REPOSITORY; 'holdfast init DIR' creates one")
	}
	return parseLocation(where)
}

// open opens the repository.
func (a *app) open() (repo.Repository, error) {
	path, err := a.location()
	if err != nil {
		return nil, err
	}
	return a.openPath(path)
}

// openAt opens another repository, named as in --repository.
func (a *app) openAt(where string) (repo.Repository, error) {
	path, err := parseLocation(where)
	if err != nil {
		return nil, err
	}
	return a.openPath(path)
}

func (a *app) openPath(path string) (repo.Repository, error) {
	r, err := a.Open(path, a.sync)
	if errors.Is(err, repo.ErrNotFound) {
		if _, serr := os.Stat(path); errors.Is(serr, os.ErrNotExist) {
			return nil, hint(err, "check the path; 'holdfast init %s' creates a repository there", path)
		}
		return nil, hint(err, "a repository is a directory with .chunks in it; 'holdfast init' makes an empty directory one")
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// with opens the repository for one job.
func (a *app) with(job func(repo.Repository) error) (err error) {
	r, err := a.open()
	if err != nil {
		return err
	}
	defer func() {
		if cerr := r.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("close repository: %w", cerr)
		}
	}()
	return job(r)
}
