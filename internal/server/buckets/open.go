package buckets

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/address"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/limit"
	"github.com/holdfast-backup/holdfast/internal/objstore/meter"
	"github.com/holdfast-backup/holdfast/internal/objstore/retry"
	"github.com/holdfast-backup/holdfast/internal/objstore/s3"
	"github.com/holdfast-backup/holdfast/internal/proto/trust"
	"github.com/holdfast-backup/holdfast/internal/throttle"
)

const (
	plainHTTP   = "http://"
	usualRegion = "us-west-1" // of PBS
)

// Bucket is an open bucket, or what lies below a prefix of it. Calls are tried
// again, as many are made at once as the engine takes, and all are counted.
type Bucket struct {
	objstore.Store
	Meter *meter.Store
	s3    *s3.Store
}

// Close lets go of connections.
func (b *Bucket) Close() error { return b.s3.Close() }

// ListBuckets lists the buckets that the key shows.
func (c Client) ListBuckets(ctx context.Context) (list []string, err error) {
	b, err := c.Open("any", "") // an address has one
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	return b.s3.ListBuckets(ctx)
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
	s, err := s3.Open(at, s3.Options{
		AccessKey: c.AccessKey, SecretKey: string(c.SecretKey.Reveal()),
		Transport: limit.Transport(c.transport(at), throttle.New(c.Out), throttle.New(c.In)),
	})
	if err != nil {
		return nil, err
	}
	b := &Bucket{s3: s}
	var lowest objstore.Store = s
	if c.Has(SingleDelete) {
		lowest = oneByOne{s}
	}
	b.Meter = meter.New(lowest)
	b.Store = retry.New(limit.New(b.Meter, limit.Usual), retry.Usual)
	return b, nil
}

// connections is how many idle ones are kept.
const connections = 128

func (c Client) transport(at s3.Address) http.RoundTripper {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost, t.MaxIdleConns = connections, connections
	t.DisableCompression = true
	t.ForceAttemptHTTP2 = false // many connections carry more than one
	if c.Fingerprint != (address.Fingerprint{}) {
		host, _, err := net.SplitHostPort(at.Endpoint)
		if err != nil {
			host = at.Endpoint // without a port
		}
		t.TLSClientConfig = trust.Client(host, c.Fingerprint, nil)
	}
	return t
}

// oneByOne removes objects with a request each.
type oneByOne struct{ *s3.Store }

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
