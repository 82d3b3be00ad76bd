package cli

import (
	"path/filepath"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/address"
)

// location is where a repository is: a directory, or a datastore on a server.
type location struct {
	dir    string // "" if it is on a server
	server address.Address
	bare   bool // of the server only the datastore was named
}

// String names it as --repository does.
func (l location) String() string {
	if l.dir != "" {
		return l.dir
	}
	return l.server.String()
}

// identity names it the same wherever the command runs.
func (l location) identity() (string, error) {
	if l.dir != "" {
		return filepath.Abs(l.dir)
	}
	return l.server.String(), nil
}

// parseLocation reads the value of --repository:
//
//	dir:PATH                                 a directory, whatever PATH looks like
//	/abs, ./rel, ../rel, ., .., any/thing    a directory
//	name.with.dots                           a directory
//	[[user@realm[!token]@]host[:port]:]store a datastore on a server
func parseLocation(s string) (location, error) {
	if path, ok := strings.CutPrefix(s, "dir:"); ok {
		if path == "" {
			return location{}, usagef("--repository %q names no directory", s)
		}
		return location{dir: path}, nil
	}
	separators := "/" + string(filepath.Separator)
	switch {
	case s == "":
		return location{}, usagef("the repository is empty")
	case strings.ContainsAny(s, separators), s == ".", s == "..",
		strings.Contains(s, ".") && !strings.ContainsAny(s, ":@"):
		return location{dir: s}, nil
	}
	server, err := address.Parse(s)
	if err != nil {
		return location{}, hint(usage(err), "a directory is written with a slash, as ./%s, or as dir:%s", s, s)
	}
	return location{server: server, bare: !strings.Contains(s, ":")}, nil
}

// location is the repository that flags and environment name.
func (a *app) location() (location, error) {
	where := a.repository
	if where == "" {
		where = a.getenv("HOLDFAST_REPOSITORY", "PBS_REPOSITORY")
	}
	if where == "" {
		return location{}, hint(usagef("no repository is named"),
			"pass --repository DIR or user@realm@host:datastore, or set HOLDFAST_REPOSITORY; 'holdfast init DIR' creates one")
	}
	return parseLocation(where)
}

// identity is that of the repository that flags and environment name.
func (a *app) identity() (string, error) {
	l, err := a.location()
	if err != nil {
		return "", err
	}
	return l.identity()
}

// directory is the path of the repository, for what does not work on a server.
func (a *app) directory(what string) (string, error) {
	l, err := a.location()
	if err == nil && l.dir == "" {
		err = usagef("%s is for repositories in directories, and %s is on a server", what, l)
	}
	return l.dir, err
}
