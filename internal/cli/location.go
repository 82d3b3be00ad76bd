package cli

import (
	"path/filepath"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/address"
	"github.com/holdfast-backup/holdfast/internal/objstore/s3"
)

// location is where a repository is: a directory, a bucket, or a datastore on a server.
type location struct {
	dir    string       // "" if it is elsewhere
	bucket *bucketPlace // nil if it is elsewhere
	server address.Address
	bare   bool // of the server only the datastore was named
}

// onServer reports whether it is a datastore on a server.
func (l location) onServer() bool { return l.dir == "" && l.bucket == nil }

// String names it as --repository does.
func (l location) String() string {
	switch {
	case l.dir != "":
		return l.dir
	case l.bucket != nil:
		return l.bucket.String()
	}
	return l.server.String()
}

// identity names it the same wherever the command runs.
func (l location) identity() (string, error) {
	switch {
	case l.dir != "":
		return filepath.Abs(l.dir)
	case l.bucket != nil:
		return l.bucket.identity(), nil
	}
	return l.server.String(), nil
}

// parseLocation reads the value of --repository:
//
//	s3://bucket[/prefix][?option=value&...]  a bucket, see bucketPlace
//	dir:PATH                                 a directory, whatever PATH looks like
//	/abs, ./rel, ../rel, ., .., any/thing    a directory
//	name.with.dots                           a directory
//	[[user@realm[!token]@]host[:port]:]store a datastore on a server
func parseLocation(s string) (location, error) {
	if s3.IsAddress(s) {
		b, err := parseBucket(s)
		if err != nil {
			return location{}, usage(err)
		}
		return location{bucket: &b}, nil
	}
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
			"pass --repository DIR, s3://bucket/prefix or user@realm@host:datastore, or set HOLDFAST_REPOSITORY; 'holdfast init' creates one")
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

// directory is the path of the repository, for what only one in a directory has.
func (a *app) directory(what string) (string, error) {
	l, err := a.location()
	switch {
	case err != nil:
		return "", err
	case l.bucket != nil:
		return "", usagef("%s is for repositories in directories, and %s is in a bucket", what, l)
	case l.dir == "":
		return "", usagef("%s is for repositories in directories, and %s is on a server", what, l)
	}
	return l.dir, nil
}

// notOnServer refuses what a server does in its own way.
func (a *app) notOnServer(what string) error {
	l, err := a.location()
	if err == nil && l.onServer() {
		err = usagef("%s is for repositories in directories and buckets, and %s is on a server", what, l)
	}
	return err
}
