package buckets

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/address"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/connect"
	"github.com/holdfast-backup/holdfast/internal/objstore/s3"
	"github.com/holdfast-backup/holdfast/internal/proto/trust"
)

const (
	plainHTTP   = "http://"
	usualRegion = "us-west-1" // of PBS
)

// Bucket is an open bucket, or what lies below a prefix of it. Calls are tried
// again, as many are made at once as the engine takes, and all are counted.
type Bucket struct {
	objstore.Store
	connection *connect.Store
}

// Traffic is what was asked of the engine.
func (b *Bucket) Traffic() connect.Traffic { return b.connection.Traffic() }

// Close lets go of connections.
func (b *Bucket) Close() error { return b.connection.Close() }

// ListBuckets lists the buckets that the key shows.
func (c Client) ListBuckets(ctx context.Context) (list []string, err error) {
	s, err := c.engine("any", "") // an address has one
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return s.ListBuckets(ctx)
}

// engine is a bucket without anything in between: for somebody who waits for an
// answer, whatever it is.
func (c Client) engine(bucket, prefix string) (*s3.Store, error) {
	at, err := c.At(bucket, prefix)
	if err != nil {
		return nil, err
	}
	keys, err := c.keys(at)
	if err != nil {
		return nil, err
	}
	return s3.Open(at, keys)
}

// At is where a bucket of the object store is.
func (c Client) At(bucket, prefix string) (s3.Address, error) {
	region := c.Region
	if region == "" {
		region = usualRegion
	}
	host, plain := strings.CutPrefix(c.Endpoint, plainHTTP)
	host = strings.NewReplacer("{{bucket}}", bucket, "{{region}}", region).Replace(host)
	pathStyle := c.PathStyle
	if !pathStyle {
		host = strings.TrimPrefix(host, bucket+".")
	}
	if strings.Count(host, ":") > 1 && !strings.HasPrefix(host, "[") {
		host = "[" + host + "]"
	}
	if c.Port != 0 {
		host += ":" + strconv.Itoa(c.Port)
	}
	scheme := "https://"
	if plain {
		scheme = plainHTTP
	}
	style := map[bool]string{true: "yes", false: "no"}[pathStyle]
	at, err := s3.ParseAddress(fmt.Sprintf("s3://%s/%s?endpoint=%s%s&region=%s&path-style=%s", bucket, prefix, scheme, host, region, style))
	if err != nil {
		return at, named(c.ID, err)
	}
	return at, nil
}

// Open opens a bucket. No request is made: whether it is there, the first use tells.
func (c Client) Open(bucket, prefix string) (*Bucket, error) {
	at, err := c.At(bucket, prefix)
	if err != nil {
		return nil, err
	}
	keys, err := c.keys(at)
	if err != nil {
		return nil, err
	}
	s, err := connect.Open(at, connect.Options{Keys: keys, Up: c.Out, Down: c.In})
	if err != nil {
		return nil, err
	}
	b := &Bucket{s, s}
	if c.Has(SingleDelete) {
		b.Store = oneByOne{s}
	}
	return b, nil
}

// keys are how the engine is asked.
func (c Client) keys(at s3.Address) (s3.Options, error) {
	t, err := s3.NewTransport(at)
	if err != nil {
		return s3.Options{}, named(c.ID, err)
	}
	if c.Fingerprint != (address.Fingerprint{}) {
		host, _, err := net.SplitHostPort(at.Endpoint)
		if err != nil {
			host = at.Endpoint // without a port
		}
		t.TLSClientConfig = trust.Client(host, c.Fingerprint, nil)
	}
	return s3.Options{AccessKey: c.AccessKey, SecretKey: string(c.SecretKey.Reveal()), Transport: t}, nil
}

// oneByOne removes objects with a request each.
type oneByOne struct{ objstore.Store }

// Delete implements objstore.Store.
func (o oneByOne) Delete(ctx context.Context, keys []string) error {
	left := objstore.DeleteError{}
	for _, k := range keys {
		if err := o.Store.Delete(ctx, []string{k}); err != nil {
			left[k] = err
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
	}
	if len(left) > 0 {
		return left
	}
	return nil
}
