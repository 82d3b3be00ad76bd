package s3

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/objstore"
)

// Address says where a bucket is:
//
//	s3://bucket[/prefix]?endpoint=URL&region=R&path-style=yes|no&storage-class=C&sse=s3|kms:KEY&checksum=crc32c|md5
//
//	bucket         3 to 63 letters, digits, '.', '-', as S3 has them
//	prefix         what all keys begin with, without a slash at its end
//	endpoint       https://host[:port], or http:// for a test; Amazon's by default
//	region         "us-east-1" by default
//	path-style     the bucket is part of the path, not of the host's name: what
//	               most engines but Amazon's want; "yes" with an endpoint
//	storage-class  of what is written; the bucket's own by default
//	sse            encryption by the store: with its own keys, or with one of its
//	               key service; none is asked for by default
//	checksum       what the engine verifies bodies by: crc32c by default, md5 for
//	               engines that do not know it
//
// Secrets are no part of it.
type Address struct {
	Bucket, Prefix string
	Endpoint       string // host[:port]
	Plain          bool   // http
	Region         string
	PathStyle      bool
	Class          string
	SSE            string // "", "s3" or "kms:KEY"
	MD5            bool   // not CRC-32C
}

// ErrAddress is wrapped by the errors of ParseAddress.
var ErrAddress = errors.New("not an address of a bucket")

const (
	scheme         = "s3://"
	amazon         = "s3.amazonaws.com"
	usualRegion    = "us-east-1"
	maxPrefixBytes = 512 // the repository's own keys need the rest
)

// IsAddress reports whether s means a bucket, right or wrong.
func IsAddress(s string) bool { return strings.HasPrefix(s, scheme) }

// ParseAddress reads the text form.
func ParseAddress(s string) (Address, error) {
	a, err := parse(s)
	if err != nil {
		return Address{}, fmt.Errorf("%w: %q: %w; it looks like s3://bucket/prefix?endpoint=https://host&region=name", ErrAddress, s, err)
	}
	return a, nil
}

func parse(s string) (Address, error) {
	if !IsAddress(s) {
		return Address{}, errors.New("it does not begin with s3://")
	}
	u, err := url.Parse(s)
	if err != nil {
		return Address{}, errors.Unwrap(err) // without the address again
	}
	if u.User != nil {
		return Address{}, errors.New("credentials do not belong here")
	}
	a := Address{Bucket: u.Host, Prefix: strings.Trim(u.Path, "/"), Endpoint: amazon, Region: usualRegion}
	if err := checkBucket(a.Bucket); err != nil {
		return Address{}, err
	}
	if len(a.Prefix) > maxPrefixBytes {
		return Address{}, fmt.Errorf("the prefix is longer than %d bytes", maxPrefixBytes)
	}
	if a.Prefix != "" {
		if err := objstore.CheckKey(a.Prefix); err != nil {
			return Address{}, err
		}
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Address{}, err
	}
	for key, values := range q {
		if len(values) > 1 {
			return Address{}, fmt.Errorf("%s is said twice", key)
		}
	}
	if e := q.Get("endpoint"); e != "" {
		a.PathStyle = true
		if err := a.setEndpoint(e); err != nil {
			return Address{}, err
		}
	}
	return a, a.setOptions(q)
}

func (a *Address) setEndpoint(e string) error {
	u, err := url.Parse(e)
	if err != nil || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return fmt.Errorf("endpoint %q is not https://host or https://host:port", e)
	}
	switch u.Scheme {
	case "https":
	case "http":
		a.Plain = true
	default:
		return fmt.Errorf("endpoint %q is not https://host or https://host:port", e)
	}
	a.Endpoint = u.Host
	return nil
}

func (a *Address) setOptions(q url.Values) error {
	for key, values := range q {
		v := values[0]
		switch key {
		case "endpoint":
		case "region":
			a.Region = v
		case "storage-class":
			a.Class = v
		case "path-style":
			if v != "yes" && v != "no" {
				return fmt.Errorf("path-style is yes or no, not %q", v)
			}
			a.PathStyle = v == "yes"
		case "sse":
			if id, kms := strings.CutPrefix(v, "kms:"); v != "s3" && (!kms || id == "") {
				return fmt.Errorf("sse is s3 or kms:KEY, not %q", v)
			}
			a.SSE = v
		case "checksum":
			if v != "crc32c" && v != "md5" {
				return fmt.Errorf("checksum is crc32c or md5, not %q", v)
			}
			a.MD5 = v == "md5"
		default:
			return fmt.Errorf("unknown option %q", key)
		}
	}
	return nil
}

// place is the address without what follows its question mark: enough for an error of
// a call, as the repository is named by whoever made it.
func (a Address) place() string {
	u := url.URL{Scheme: "s3", Host: a.Bucket}
	if a.Prefix != "" {
		u.Path = "/" + a.Prefix
	}
	return u.String()
}

// checkBucket holds a name to what all engines take.
func checkBucket(name string) error {
	if len(name) < 3 || len(name) > 63 {
		return fmt.Errorf("the bucket's name %q does not have 3 to 63 bytes", name)
	}
	for i := range len(name) {
		c := name[i]
		inner := i > 0 && i < len(name)-1
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || inner && (c == '-' || c == '.' && name[i-1] != '.') {
			continue
		}
		return fmt.Errorf("the bucket's name %q has other things than small letters, digits, '-' and '.'", name)
	}
	return nil
}

// String is the inverse of ParseAddress: everything but what is usual.
func (a Address) String() string {
	q := url.Values{}
	endpoint := "https://" + a.Endpoint
	if a.Plain {
		endpoint = "http://" + a.Endpoint
	}
	usual := endpoint == "https://"+amazon
	if !usual || a.PathStyle {
		q.Set("endpoint", endpoint)
	}
	if q.Has("endpoint") && !a.PathStyle {
		q.Set("path-style", "no")
	}
	if a.Region != usualRegion {
		q.Set("region", a.Region)
	}
	if a.Class != "" {
		q.Set("storage-class", a.Class)
	}
	if a.SSE != "" {
		q.Set("sse", a.SSE)
	}
	if a.MD5 {
		q.Set("checksum", "md5")
	}
	query := strings.NewReplacer("%3A", ":", "%2F", "/").Replace(q.Encode()) // people read it
	if query == "" {
		return a.place()
	}
	return a.place() + "?" + query
}
