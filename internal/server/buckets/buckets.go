// Package buckets is the object stores that a server knows: s3.cfg of PBS, and
// ways into their buckets.
//
// # s3.cfg
//
//	s3client: garage
//		access-key GK31c2f218a2e44f485b94239e
//		endpoint storage.example
//		fingerprint 6b:c1:…
//		path-style true
//		port 3900
//		region garage
//		secret-key b892c0665f0ada8a4755dae98baa3b133590e11dae3bcc1f9d769d67f16c3835
//
// What is not known here stays in the file and does not matter.
//
// An endpoint is the name of a host, in which {{bucket}} and {{region}} stand for
// what they say. Where the bucket is named there, or is the first part of it, it is
// part of the host's name; with path-style it is part of the path. The engine is
// asked by TLS; http:// in front of the endpoint is for tests, and PBS does not
// know it.
//
// # Secrets
//
// The secret key is in the file as it is, as PBS keeps it; no call shows it.
package buckets

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/address"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
	"github.com/holdfast-backup/holdfast/internal/property"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/secret"
)

const (
	sectionType = "s3client"
	secretKey   = "secret-key"
)

// The quirks of providers that PBS knows.
const (
	NoConditions = "skip-if-none-match-header"
	SingleDelete = "delete-objects-via-delete-object"
)

// Properties lists what can be said of an object store, besides its secret key.
func Properties() []property.Property {
	const none = "; of no effect here"
	return []property.Property{
		property.Of("endpoint", "name of the engine's host; {{bucket}} and {{region}} stand for what they say", isEndpoint).Must(),
		property.Int("port", "port of the engine, 443 without it", 1, 65535),
		property.Of("region", "region of the bucket, us-west-1 without it", isRegion),
		property.Line("access-key", "name of the key", 128).Must(),
		property.Of("fingerprint", "of the engine's certificate; not needed if a known authority has signed that", func(s string) error {
			_, err := address.ParseFingerprint(s)
			return err
		}),
		property.Bool("path-style", "true: the bucket is part of the path, not of the host's name"),
		property.Rate("rate-in", "bytes a second that are read, as 10MiB"),
		property.Rate("rate-out", "bytes a second that are written, as 10MiB"),
		property.Rate("burst-in", "more for a moment"+none),
		property.Rate("burst-out", "more for a moment"+none),
		property.Int("put-rate-limit", "requests a second that write"+none, 1, 1<<31-1),
		property.Choice("provider-quirks", "what the engine cannot do", NoConditions, SingleDelete).List(),
	}
}

// Client is an object store and who asks it.
type Client struct {
	ID          string
	Endpoint    string
	Port        int // 0: that of the protocol
	Region      string
	AccessKey   string
	SecretKey   secret.Secret
	Fingerprint address.Fingerprint // zero: an authority vouches for it
	PathStyle   bool
	In, Out     int64 // bytes a second; 0: no limit
	Quirks      []string

	section *sectionconfig.Section
}

// Same reports whether the file says the same of both.
func (c Client) Same(o Client) bool {
	return c.ID == o.ID && slices.Equal(c.section.Props, o.section.Props)
}

// Item is what the file says of it, without the secret key, as JSON.
func (c Client) Item() map[string]any {
	item := property.Item(c.section, Properties())
	delete(item, secretKey)
	item["id"] = c.ID
	return item
}

// Has reports whether the engine has a quirk.
func (c Client) Has(quirk string) bool { return slices.Contains(c.Quirks, quirk) }

func clientOf(sec *sectionconfig.Section) (Client, error) {
	c := Client{ID: sec.ID, section: sec}
	if err := property.Check(sec, Properties()); err != nil {
		return c, err
	}
	text := func(key string) string { v, _ := sec.Get(key); return v }
	c.Endpoint, c.Region, c.AccessKey = text("endpoint"), text("region"), text("access-key")
	c.SecretKey = secret.New([]byte(text(secretKey)))
	if c.SecretKey.Empty() {
		return c, errors.New(secretKey + " is missing")
	}
	// What follows was checked.
	for key, to := range map[string]*int64{"rate-in": &c.In, "rate-out": &c.Out} {
		if s := text(key); s != "" {
			*to, _ = property.ParseRate(s)
		}
	}
	_, _ = fmt.Sscan(text("port"), &c.Port)
	if s := text("fingerprint"); s != "" {
		c.Fingerprint, _ = address.ParseFingerprint(s)
	}
	c.PathStyle, _ = sec.Bool("path-style", false)
	c.Quirks = sec.All("provider-quirks")
	return c, nil
}

// List returns the object stores in the order of the file, and its digest.
func List(conf confdir.Dir) ([]Client, confdir.Digest, error) {
	f, digest, err := load(conf)
	if err != nil {
		return nil, digest, err
	}
	var all []Client
	for sec := range f.Of(sectionType) {
		c, err := clientOf(sec)
		if err != nil {
			return nil, digest, fmt.Errorf("%s: %w", confdir.S3.Name, named(sec.ID, err))
		}
		all = append(all, c)
	}
	return all, digest, nil
}

// Find returns one of them. Others need not be readable.
func Find(conf confdir.Dir, id string) (Client, error) {
	f, _, err := load(conf)
	if err != nil {
		return Client{}, err
	}
	sec := f.Find(id)
	if sec == nil || sec.Type != sectionType {
		return Client{}, named(id, ErrMissing)
	}
	c, err := clientOf(sec)
	if err != nil {
		return c, fmt.Errorf("%s: %w", confdir.S3.Name, named(id, err))
	}
	return c, nil
}

func load(conf confdir.Dir) (*sectionconfig.File, confdir.Digest, error) {
	text, err := conf.Load(confdir.S3)
	if err != nil {
		return nil, confdir.Digest{}, err
	}
	f, err := sectionconfig.Parse(text)
	if err != nil {
		return nil, confdir.Digest{}, fmt.Errorf("%s: %w", confdir.S3.Name, err)
	}
	return f, confdir.DigestOf(text), nil
}

// ErrMissing is a name of which the file says nothing.
var ErrMissing = fmt.Errorf("%w in %s", repo.ErrNotFound, confdir.S3.Name)

func named(id string, err error) error { return fmt.Errorf("object store %q: %w", id, err) }

func isEndpoint(s string) error {
	host, _ := strings.CutPrefix(s, plainHTTP)
	if host == "" || len(host) > 255 || strings.ContainsAny(host, " \t/@?#") {
		return errors.New("want the name or address of a host, without its port")
	}
	return nil
}

func isRegion(s string) error {
	if s == "" || len(s) > 32 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		return errors.New("want lower case letters, digits, '-' and '_'")
	}
	return nil
}

// CheckID reports whether an object store may have the id.
func CheckID(s string) error {
	if !names.IsSafeID(s) || len(s) < 3 || len(s) > 32 {
		return named(s, errors.New("want 3 to 32 letters, digits, '-', '_' or '.'"))
	}
	return nil
}
