package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/connect"
	"github.com/holdfast-backup/holdfast/internal/objstore/s3"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket"
	"github.com/holdfast-backup/holdfast/internal/repo/pbsbucket"
	"github.com/holdfast-backup/holdfast/internal/ui"
)

// bucketPlace is a repository in a bucket: an address as package s3 has it, and the
// option at=TIME, which is the repository as it was at that time.
type bucketPlace struct {
	s3.Address
	at time.Time // zero: as it is
}

func parseBucket(text string) (bucketPlace, error) {
	var b bucketPlace
	place, options, _ := strings.Cut(text, "?")
	if q, err := url.ParseQuery(options); err == nil && q.Has("at") { // what cannot be read, s3 refuses
		t, err := time.Parse(time.RFC3339, q.Get("at"))
		if len(q["at"]) > 1 {
			return b, fmt.Errorf("%w: %q: at is said twice", s3.ErrAddress, text)
		}
		if err != nil {
			return b, fmt.Errorf("%w: %q: at=%s is no time as 2026-11-22T10:00:00Z", s3.ErrAddress, text, q.Get("at"))
		}
		b.at = t
		q.Del("at")
		if text = place; len(q) > 0 {
			text += "?" + q.Encode()
		}
	}
	var err error
	b.Address, err = s3.ParseAddress(text)
	return b, err
}

// String is the inverse of parseBucket.
func (b bucketPlace) String() string {
	text := b.Address.String()
	if b.at.IsZero() {
		return text
	}
	sep := "?"
	if strings.Contains(text, "?") {
		sep = "&"
	}
	return text + sep + "at=" + strings.ReplaceAll(b.at.Format(time.RFC3339), "+", "%2B")
}

// identity is the address without how things are written there.
func (b bucketPlace) identity() string {
	a := b.Address
	a.Class, a.SSE, a.MD5 = "", "", false
	return a.String()
}

// connect reaches a bucket with the keys and limits of the environment. It is open
// until the command ends.
func (a *app) connect(ctx context.Context, at s3.Address, from end) (*connect.Store, error) {
	o, err := a.bucketOptions()
	if err != nil {
		return nil, err
	}
	if o.Keys, err = a.bucketKeys(ctx, from); err != nil {
		return nil, err
	}
	o.Trouble = func(err error) { a.warn("the cache in %s is not used as it should be: %v", o.CacheDir, err) }
	s, err := connect.Open(at, o)
	if err != nil {
		return nil, err
	}
	a.buckets.add(s)
	return s, nil
}

// bucketKeys are the credentials of the environment.
func (a *app) bucketKeys(ctx context.Context, from end) (o s3.Options, err error) {
	variables := []string{"S3"}
	if from == farEnd {
		variables = []string{"REMOTE_S3", "S3"}
	}
	for _, v := range variables {
		secret, given, err := a.secrets().FromEnv(ctx, v+"_SECRET_KEY")
		if err != nil {
			return o, err
		}
		if given && !secret.Empty() {
			o.AccessKey, o.SecretKey = a.getenv("HOLDFAST_"+v+"_ACCESS_KEY", "PBS_"+v+"_ACCESS_KEY"), string(secret.Reveal())
			return o, nil
		}
	}
	if o, err = s3.AmazonCredentials(a.LookupEnv); err != nil {
		if a.getenv("HOLDFAST_S3_ACCESS_KEY") != "" {
			return o, hint(mark(errRefused, "HOLDFAST_S3_ACCESS_KEY is set, HOLDFAST_S3_SECRET_KEY is not"), "set both, or what Amazon's tools use")
		}
		return o, hint(mark(errRefused, "%v", err), "set HOLDFAST_S3_ACCESS_KEY and HOLDFAST_S3_SECRET_KEY, or what Amazon's tools use")
	}
	return o, nil
}

const usualCache = 1 << 30 // bytes

// bucketOptions are the limits of the environment.
func (a *app) bucketOptions() (o connect.Options, err error) {
	o.CacheDir, o.CacheSize = a.getenv("HOLDFAST_S3_CACHE"), usualCache
	for _, v := range []struct {
		name string
		to   *int64
	}{{"HOLDFAST_S3_RATE_UP", &o.Up}, {"HOLDFAST_S3_RATE_DOWN", &o.Down}, {"HOLDFAST_S3_CACHE_SIZE", &o.CacheSize}} {
		text := a.getenv(v.name)
		if text == "" {
			continue
		}
		if *v.to, err = ui.ParseSize(text); err != nil || *v.to <= 0 {
			return o, usagef("%s: %q is no number of bytes, as 50M", v.name, text)
		}
	}
	if text := a.getenv("HOLDFAST_S3_REQUESTS"); text != "" {
		if o.Requests, err = strconv.Atoi(text); err != nil || o.Requests < 1 || o.Requests > 1024 {
			return o, usagef("HOLDFAST_S3_REQUESTS: %q does not lie between 1 and 1024", text)
		}
	}
	return o, nil
}

// justNow is how long ago the log may have been asked. So what a command opens first costs
// no further question: it is as it was while the command began.
const justNow = time.Second

// openBucket opens the repository in a bucket, in whichever of the two layouts.
func (a *app) openBucket(ctx context.Context, where bucketPlace, from end) (repo.Repository, error) {
	s, err := a.connect(ctx, where.Address, from)
	if err != nil {
		return nil, err
	}
	if err := a.keepBucket(ctx, s); err != nil {
		return nil, err
	}
	r, err := bucket.Open(ctx, s, bucket.Options{Location: where.String(), At: where.at, Recent: justNow, Rand: a.Rand})
	if err == nil {
		return r, nil
	}
	if !errors.Is(err, repo.ErrNotFound) {
		return nil, err
	}
	if _, ierr := bucket.Identify(ctx, s); ierr == nil && !where.at.IsZero() {
		return nil, hint(err, "name a later time; without at=TIME it is opened as it is now")
	}
	pbs, perr := pbsbucket.Open(ctx, s)
	switch {
	case perr == nil:
		return pbs, nil
	case !errors.Is(perr, repo.ErrNotFound):
		return nil, perr
	}
	return nil, a.explainEmpty(ctx, s, where, err)
}

// keepBucket has what was read kept in the cache, if there is to be one.
func (a *app) keepBucket(ctx context.Context, s *connect.Store) error {
	if a.fresh || !s.Caching() {
		return nil
	}
	id, err := bucket.Identify(ctx, s)
	switch {
	case err == nil:
		s.Keep(id, bucket.Unchanging)
	case !errors.Is(err, objstore.ErrNotFound): // what is not there, opening says better
		return err
	}
	return nil
}

// explainEmpty says what is in a bucket where no repository is.
func (a *app) explainEmpty(ctx context.Context, s objstore.Store, where bucketPlace, err error) error {
	list, _, lerr := s.List(ctx, "", "", 1)
	switch {
	case lerr != nil:
		return errors.Join(err, lerr)
	case len(list) == 0:
		return hint(err, "nothing is there; 'holdfast init %s' creates a repository", where.Address)
	}
	return hint(err, "there is something else, such as %q: a repository's prefix is part of its address", list[0].Key)
}
