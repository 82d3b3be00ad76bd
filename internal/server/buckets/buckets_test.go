package buckets_test

import (
	"bytes"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/address"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/meter"
	"github.com/holdfast-backup/holdfast/internal/property"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/secret"
	"github.com/holdfast-backup/holdfast/internal/server/buckets"
)

func config(t *testing.T) confdir.Dir {
	t.Helper()
	d := confdir.New(filepath.Join(t.TempDir(), "conf"))
	if err := d.Make(); err != nil {
		t.Fatal(err)
	}
	return d
}

func text(t *testing.T, d confdir.Dir, f confdir.File) string {
	t.Helper()
	b, err := d.Load(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What PBS 4.2 writes for its command s3 client create.
const written = `s3client: garage
	access-key GK31c2f218
	endpoint storage.example
	path-style true
	port 3900
	provider-quirks skip-if-none-match-header
	rate-in 10MiB
	region garage
	secret-key b892c0665f
`

func TestTheFileIsThatOfPBS(t *testing.T) {
	d := config(t)
	key := secret.New([]byte("b892c0665f"))
	err := buckets.Set(t.Context(), d, "garage", "", true, property.Values{
		"endpoint": {"storage.example"}, "access-key": {"GK31c2f218"}, "port": {"3900"}, "path-style": {"true"}, "region": {"garage"},
		"rate-in": {"10MiB"}, "provider-quirks": {buckets.NoConditions},
	}, &key)
	if err != nil {
		t.Fatal(err)
	}
	if got := text(t, d, confdir.S3); got != written {
		t.Errorf("%s\nwant\n%s", got, written)
	}
	c, err := buckets.Find(d, "garage")
	if err != nil || c.Port != 3900 || !c.PathStyle || c.In != 10<<20 || !c.Has(buckets.NoConditions) || string(c.SecretKey.Reveal()) != "b892c0665f" {
		t.Errorf("%+v, %v", c, err)
	}
	if item := c.Item(); item["id"] != "garage" || item["port"] != int64(3900) || item["secret-key"] != nil {
		t.Errorf("%v", item)
	}
}

func TestWhatIsWrongChangesNothing(t *testing.T) {
	d := config(t)
	if err := os.WriteFile(filepath.Join(d.Path(), "s3.cfg"), []byte(written), 0o600); err != nil {
		t.Fatal(err)
	}
	stores := "datastore: tank\n\tbackend type=s3,client=garage,bucket=backups\n\tpath /x\n"
	if err := os.WriteFile(filepath.Join(d.Path(), "datastore.cfg"), []byte(stores), 0o600); err != nil {
		t.Fatal(err)
	}
	twoWords := secret.New([]byte("a b"))
	for name, err := range map[string]error{
		"one that a datastore uses": buckets.Remove(t.Context(), d, "garage", ""),
		"one that is not there":     buckets.Remove(t.Context(), d, "other", ""),
		"one that is there":         buckets.Set(t.Context(), d, "garage", "", true, nil, nil),
		"one without a key":         buckets.Set(t.Context(), d, "other", "", true, property.Values{"endpoint": {"x"}, "access-key": {"y"}}, nil),
		"a key of two words":        buckets.Set(t.Context(), d, "garage", "", false, nil, &twoWords),
		"an endpoint with a path":   buckets.Set(t.Context(), d, "garage", "", false, property.Values{"endpoint": {"host/path"}}, nil),
		"no endpoint":               buckets.Set(t.Context(), d, "garage", "", false, property.Values{"endpoint": nil}, nil),
		"another quirk":             buckets.Set(t.Context(), d, "garage", "", false, property.Values{"provider-quirks": {"none"}}, nil),
		"an old digest":             buckets.Set(t.Context(), d, "garage", strings.Repeat("0", 64), false, property.Values{"port": {"1"}}, nil),
	} {
		if err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if got := text(t, d, confdir.S3); got != written {
		t.Errorf("the file was changed:\n%s", got)
	}
	if _, err := buckets.Find(d, "other"); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("one that is not there: %v", err)
	}
}

func TestWhereABucketIs(t *testing.T) {
	for _, tc := range []struct {
		name string
		c    buckets.Client
		want string
	}{
		{"in the path", buckets.Client{Endpoint: "storage.example", PathStyle: true, Port: 9000}, "https://storage.example:9000 path us-west-1"},
		{"in the template", buckets.Client{Endpoint: "{{bucket}}.s3.{{region}}.amazonaws.com", Region: "eu-west-1"}, "https://s3.eu-west-1.amazonaws.com host eu-west-1"},
		{"in the name", buckets.Client{Endpoint: "backups.s3.example"}, "https://s3.example host us-west-1"},
		{"an address", buckets.Client{Endpoint: "fd00::1", PathStyle: true, Port: 443}, "https://[fd00::1]:443 path us-west-1"},
		{"for tests", buckets.Client{Endpoint: "http://127.0.0.1", PathStyle: true}, "http://127.0.0.1 path us-west-1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			at, err := tc.c.At("backups", "tank")
			if err != nil || at.Bucket != "backups" || at.Prefix != "tank" {
				t.Fatalf("%+v, %v", at, err)
			}
			scheme, style := "https://", "host"
			if at.Plain {
				scheme = "http://"
			}
			if at.PathStyle {
				style = "path"
			}
			if got := scheme + at.Endpoint + " " + style + " " + at.Region; got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
}

func TestAnEngineIsKnownByItsFingerprintAlone(t *testing.T) {
	back := s3mem.New()
	if err := back.CreateBucket("backups"); err != nil {
		t.Fatal(err)
	}
	engine := httptest.NewTLSServer(gofakes3.New(back).Server())
	t.Cleanup(engine.Close)
	host, port, _ := strings.Cut(strings.TrimPrefix(engine.URL, "https://"), ":")
	c := buckets.Client{
		ID: "test", Endpoint: host, PathStyle: true, AccessKey: "a", SecretKey: secret.New([]byte("b")), Quirks: []string{buckets.SingleDelete},
		Fingerprint: address.FingerprintOf(engine.Certificate().Raw),
	}
	for _, d := range port {
		c.Port = 10*c.Port + int(d-'0')
	}
	b, err := c.Open("backups", "tank")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	for _, key := range []string{"x", "y"} {
		if _, err := b.Put(t.Context(), key, bytes.NewReader([]byte("hello")), objstore.PutOptions{If: objstore.IfAbsent}); err != nil {
			t.Fatal(err)
		}
	}
	if got, _, err := objstore.ReadAll(t.Context(), b, "x", 10); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	if err := b.Delete(t.Context(), []string{"x", "y", "z"}); err != nil {
		t.Error(err)
	}
	if list, _, err := b.List(t.Context(), "", "", 10); err != nil || len(list) > 0 {
		t.Errorf("%v are left, %v", list, err)
	}
	if n := b.Traffic().Requests[meter.Put]; n != 2 {
		t.Errorf("%d requests to write are counted", n)
	}
	if list, err := c.ListBuckets(t.Context()); err != nil || !slices.Equal(list, []string{"backups"}) {
		t.Errorf("buckets %v, %v", list, err)
	}
	if err := c.Check(t.Context(), "backups", "tank"); err != nil {
		t.Errorf("check: %v", err)
	}
	if list, _, err := b.List(t.Context(), "", "", 10); err != nil || len(list) > 0 {
		t.Errorf("the check leaves %v, %v", list, err)
	}
	if err := c.Check(t.Context(), "others", ""); !errors.Is(err, objstore.ErrBucket) {
		t.Errorf("check of a bucket that is not there: %v", err)
	}
	c.Fingerprint[0] ^= 1
	if _, err := c.ListBuckets(t.Context()); err == nil || !strings.Contains(err.Error(), "fingerprint") {
		t.Errorf("an engine with another certificate: %v", err)
	}
}
