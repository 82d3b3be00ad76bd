// Package s3 is a bucket of an S3-compatible engine: Amazon S3, Ceph RGW,
// Garage, MinIO, versitygw and others, through minio-go.
//
// Nothing is tried again here, so that callers see what happens
// (objstore/retry does). Every Put is one request with a checksum that the
// engine verifies; there are no multipart uploads.
package s3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/encrypt"

	"github.com/holdfast-backup/holdfast/internal/objstore"
)

// Store is a bucket, below the prefix of its address.
type Store struct {
	at     Address
	prefix string // with a slash at its end, or empty
	core   minio.Core
	sse    encrypt.ServerSide
	after  *retryAfter
}

var _ objstore.Store = (*Store)(nil)

// Options are what an address does not say.
type Options struct {
	AccessKey, SecretKey, SessionToken string
	Transport                          http.RoundTripper // carries the requests; nil: a NewTransport
}

// NewTransport returns what carries requests to a bucket, with room for 128 connections.
func NewTransport(at Address) (*http.Transport, error) {
	t, err := minio.DefaultTransport(!at.Plain)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", at, err)
	}
	t.MaxIdleConnsPerHost, t.MaxIdleConns = 128, 128
	t.DisableCompression = true
	return t, nil
}

// Open returns a bucket. No request is made: whether it is there, the first use
// tells.
func Open(at Address, o Options) (*Store, error) {
	s := &Store{at: at, after: &retryAfter{next: o.Transport}}
	if s.after.next == nil {
		t, err := NewTransport(at)
		if err != nil {
			return nil, err
		}
		s.after.next = t
	}
	if at.Prefix != "" {
		s.prefix = at.Prefix + "/"
	}
	switch key, kms := strings.CutPrefix(at.SSE, "kms:"); {
	case at.SSE == "s3":
		s.sse = encrypt.NewSSE()
	case kms:
		sse, err := encrypt.NewSSEKMS(key, nil)
		if err != nil {
			return nil, fmt.Errorf("bucket %s: %w", at, err)
		}
		s.sse = sse
	}
	lookup := minio.BucketLookupDNS
	if at.PathStyle {
		lookup = minio.BucketLookupPath
	}
	client, err := minio.New(at.Endpoint, &minio.Options{
		Creds:  credentials.NewStaticV4(o.AccessKey, o.SecretKey, o.SessionToken),
		Secure: !at.Plain, Region: at.Region, BucketLookup: lookup, Transport: s.after, MaxRetries: 1,
		TrailingHeaders: !at.MD5, // without it the library sends no CRC, not even as a header
	})
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", at, err)
	}
	s.core = minio.Core{Client: client}
	return s, nil
}

// Location is the address.
func (s *Store) Location() string { return s.at.String() }

// Close lets go of idle connections.
func (s *Store) Close() error {
	if t, ok := s.after.next.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
	return nil
}

func (s *Store) info(o minio.ObjectInfo) objstore.Info {
	return objstore.Info{Key: strings.TrimPrefix(o.Key, s.prefix), Size: o.Size, Tag: o.ETag, Modified: o.LastModified}
}

// Get implements objstore.Store.
func (s *Store) Get(ctx context.Context, key string, off, n int64) (objstore.Object, error) {
	if err := objstore.CheckKey(key); err != nil {
		return objstore.Object{}, err
	}
	if n == 0 { // there is no such range
		info, err := s.Stat(ctx, key)
		return objstore.Object{Info: info, ReadCloser: http.NoBody}, err
	}
	var o minio.GetObjectOptions
	if off != 0 || n >= 0 {
		r := "bytes=" + strconv.FormatInt(off, 10) + "-"
		if n > 0 {
			r += strconv.FormatInt(off+n-1, 10)
		}
		o.Set("Range", r)
	}
	body, info, header, err := s.core.GetObject(ctx, s.at.Bucket, s.prefix+key, o)
	if err != nil {
		return objstore.Object{}, s.failed("read", key, err)
	}
	want := info.Size // of this answer
	info.Size = whole(header, info.Size)
	info.Key = key
	return objstore.Object{Info: s.info(info), ReadCloser: &counted{ReadCloser: body, left: want, key: key}}, nil
}

// whole is the size of an object of which a range came.
func whole(h http.Header, size int64) int64 {
	if _, total, ok := strings.Cut(h.Get("Content-Range"), "/"); ok {
		if n, err := strconv.ParseInt(total, 10, 64); err == nil {
			return n
		}
	}
	return size
}

// counted holds an answer to its length.
type counted struct {
	io.ReadCloser
	left int64
	key  string
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.left -= int64(n)
	switch {
	case errors.Is(err, io.EOF) && c.left > 0:
		return n, io.ErrUnexpectedEOF
	case err != nil && !errors.Is(err, io.EOF):
		return n, fmt.Errorf("read object %s: %w", c.key, err)
	}
	return n, err
}

// Put implements objstore.Store.
func (s *Store) Put(ctx context.Context, key string, body objstore.Body, o objstore.PutOptions) (objstore.Info, error) {
	if err := objstore.CheckKey(key); err != nil {
		return objstore.Info{}, err
	}
	opt := minio.PutObjectOptions{
		ContentType: "application/octet-stream", StorageClass: s.at.Class, ServerSideEncryption: s.sse,
		DisableMultipart: true,
	}
	if err := s.checksum(&opt, body); err != nil {
		return objstore.Info{}, fmt.Errorf("object %s: %w", key, err)
	}
	if o.Class != "" {
		opt.StorageClass = o.Class
	}
	if o.If.Absent() {
		opt.SetMatchETagExcept("*")
	} else if t := o.If.Tag(); t != "" {
		opt.SetMatchETag(t)
	}
	if !o.Retain.IsZero() {
		opt.Mode, opt.RetainUntilDate = mode(o.Retain.Mode), o.Retain.Until.UTC()
	}
	up, err := s.core.Client.PutObject(ctx, s.at.Bucket, s.prefix+key, io.NewSectionReader(body, 0, body.Size()), body.Size(), opt)
	if err != nil {
		return objstore.Info{}, s.failed("write", key, err)
	}
	return objstore.Info{Key: key, Size: body.Size(), Tag: up.ETag, Modified: up.LastModified}, nil
}

// Stat implements objstore.Store.
func (s *Store) Stat(ctx context.Context, key string) (objstore.Info, error) {
	if err := objstore.CheckKey(key); err != nil {
		return objstore.Info{}, err
	}
	o, err := s.core.StatObject(ctx, s.at.Bucket, s.prefix+key, minio.StatObjectOptions{})
	if err != nil {
		return objstore.Info{}, s.failed("ask for", key, err)
	}
	o.Key = key
	return s.info(o), nil
}

// List implements objstore.Store.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) ([]objstore.Info, bool, error) {
	limit = min(limit, objstore.MaxDelete)
	owner := false
	opt := minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true, MaxKeys: limit, FetchOwner: &owner}
	if after != "" {
		opt.StartAfter = s.prefix + after
	}
	var list []objstore.Info
	for o := range s.core.ListObjectsIter(ctx, s.at.Bucket, opt) {
		if o.Err != nil {
			return nil, false, s.failed("list", prefix, o.Err)
		}
		list = append(list, s.info(o))
		if len(list) == limit { // leaving here asks for no further page
			return list, true, nil
		}
	}
	return list, false, context.Cause(ctx)
}

// Delete implements objstore.Store.
func (s *Store) Delete(ctx context.Context, keys []string) error {
	if len(keys) > objstore.MaxDelete {
		return fmt.Errorf("%w: %d, at most %d are allowed", objstore.ErrTooMany, len(keys), objstore.MaxDelete)
	}
	for _, k := range keys {
		if err := objstore.CheckKey(k); err != nil {
			return err
		}
	}
	if len(keys) == 1 {
		err := s.core.RemoveObject(ctx, s.at.Bucket, s.prefix+keys[0], minio.RemoveObjectOptions{})
		if err = s.failed("remove", keys[0], err); err == nil || errors.Is(err, objstore.ErrNotFound) {
			return nil
		}
		return err
	}
	results, err := s.core.RemoveObjectsWithIter(ctx, s.at.Bucket, func(yield func(minio.ObjectInfo) bool) {
		for _, k := range keys {
			if !yield(minio.ObjectInfo{Key: s.prefix + k}) {
				return
			}
		}
	}, minio.RemoveObjectsOptions{})
	if err != nil {
		return s.failed("remove", keys[0], err)
	}
	left := objstore.DeleteError{}
	for r := range results {
		key := strings.TrimPrefix(r.ObjectName, s.prefix)
		switch err := s.failed("remove", key, r.Err); {
		case err == nil, errors.Is(err, objstore.ErrNotFound):
		case r.ObjectName == "": // the request failed as a whole
			return err
		default:
			left[key] = err
		}
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if len(left) > 0 {
		return left
	}
	return nil
}

// Retain implements objstore.Store.
func (s *Store) Retain(ctx context.Context, key string, r objstore.Retention) error {
	m, until := mode(r.Mode), r.Until.UTC()
	err := s.core.PutObjectRetention(ctx, s.at.Bucket, s.prefix+key, minio.PutObjectRetentionOptions{Mode: &m, RetainUntilDate: &until})
	return s.failed("lock", key, err)
}

// ListBuckets lists the buckets that the key shows, whatever the address names.
func (s *Store) ListBuckets(ctx context.Context) ([]string, error) {
	list, err := s.core.ListBuckets(ctx)
	if err != nil {
		return nil, s.failed("list", "buckets", err)
	}
	var all []string
	for _, b := range list {
		all = append(all, b.Name)
	}
	return all, nil
}

func mode(m objstore.RetentionMode) minio.RetentionMode {
	if m == objstore.Compliance {
		return minio.Compliance
	}
	return minio.Governance
}

// failed puts an error of the engine into words and into its kind.
func (s *Store) failed(what, key string, err error) error {
	if err == nil {
		return nil
	}
	r := minio.ToErrorResponse(err)
	at := func(kind error) error { return fmt.Errorf("%s %s in %s: %w: %w", what, key, s.at.place(), kind, err) }
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case untrusted:
		return at(objstore.ErrUntrusted)
	case r.Code == minio.NoSuchBucket:
		return at(objstore.ErrBucket)
	case r.Code == "RequestTimeTooSkewed":
		return at(objstore.ErrClock)
	case r.StatusCode == http.StatusPreconditionFailed, r.Code == "ConditionalRequestConflict":
		return at(objstore.ErrPrecondition)
	case r.Code == minio.InvalidAccessKeyID, r.Code == "XAdminUserNotFound", // the latter is 404 of versitygw
		r.Code == "AuthorizationHeaderMalformed": // signed for another region
		return at(objstore.ErrDenied)
	case r.Code == "ObjectParentIsFile", r.Code == "ExistingObjectIsDirectory": // of versitygw, where keys are files
		return at(objstore.ErrKey)
	case r.StatusCode == http.StatusNotFound, r.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return at(objstore.ErrNotFound)
	case r.StatusCode == http.StatusForbidden, r.StatusCode == http.StatusUnauthorized, r.Code == minio.AccessDenied, r.Code == "InvalidRetentionPeriod", r.Code == "ObjectLocked",
		r.Code == "InvalidRequest" && what == "lock", r.Code == "ObjectLockConfigurationNotFoundError":
		return at(objstore.ErrDenied)
	case r.StatusCode == http.StatusServiceUnavailable, r.StatusCode == http.StatusTooManyRequests, r.Code == "SlowDown":
		return fmt.Errorf("%s %s in %s: %w", what, key, s.at.place(), &objstore.BusyError{After: s.after.last(), Err: err})
	}
	return fmt.Errorf("%s %s in %s: %w", what, key, s.at.place(), err)
}

// retryAfter remembers what the engine last said about when to come again.
type retryAfter struct {
	next http.RoundTripper
	said atomic.Int64 // nanoseconds
}

const longestAfter = time.Minute // whoever says more is not believed

func (r *retryAfter) RoundTrip(q *http.Request) (*http.Response, error) {
	a, err := r.next.RoundTrip(q)
	if err == nil && a.StatusCode >= http.StatusTooManyRequests {
		n, _ := strconv.Atoi(a.Header.Get("Retry-After"))
		r.said.Store(int64(min(max(time.Duration(n)*time.Second, 0), longestAfter)))
	}
	return a, err
}

func (r *retryAfter) last() time.Duration { return time.Duration(r.said.Load()) }
