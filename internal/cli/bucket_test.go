package cli

import (
	"testing"

	"github.com/holdfast-backup/holdfast/internal/objstore/connect"
	"github.com/holdfast-backup/holdfast/internal/objstore/meter"
)

func TestTrafficIsTold(t *testing.T) {
	var c connect.Traffic
	p := meter.Usual()
	if got, want := trafficText(c, p, "$"), "0 requests, 0 B up, 0 B down; about 0.00 $"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	c.Requests[meter.Put], c.Requests[meter.Get], c.Up, c.Down, c.Retries, c.Hits, c.HitBytes = 12, 1, 3<<20, 5<<10, 2, 1, 7<<20
	if got, want := trafficText(c, p, "$"), "13 requests (1 get, 12 put), 3 MiB up, 5 KiB down, 7 MiB from the cache, 2 tried again; about 0.000061 $"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for v, want := range map[float64]string{0: "0.00", 0.5: "0.50", 0.012: "0.012", 0.000999: "0.00100", 123.456: "123.46"} {
		if got := twoDigits(v); got != want {
			t.Errorf("%v is %s, want %s", v, got, want)
		}
	}
}

func TestAddressOfABucketHasATime(t *testing.T) {
	for _, text := range []string{
		"s3://abc", "s3://abc?at=2026-11-22T10:00:00Z", "s3://abc/p?endpoint=http://h:1&sse=s3", "s3://abc/p?endpoint=http://h:1&at=2026-11-22T10:00:00%2B01:00",
	} {
		l, err := parseLocation(text)
		if err != nil || l.bucket == nil || l.String() != text {
			t.Fatalf("%s: %+v, %v", text, l, err)
		}
		again, err := parseLocation(l.String())
		if err != nil || !again.bucket.at.Equal(l.bucket.at) || again.bucket.Address != l.bucket.Address {
			t.Errorf("%s: %+v, %v", text, again, err)
		}
	}
	one, err := parseLocation("s3://abc/p?endpoint=http://h:1&sse=s3&storage-class=X&checksum=md5&at=2026-11-22T10:00:00Z")
	if err != nil {
		t.Fatal(err)
	}
	if id, err := one.identity(); err != nil || id != "s3://abc/p?endpoint=http://h:1" {
		t.Errorf("identity %s, %v", id, err)
	}
	for _, text := range []string{"s3://", "s3://abc?at=", "s3://abc?at=now", "s3://abc?at=2026-11-22T10:00:00Z&at=2026-11-22T11:00:00Z", "s3://abc?x=1", "s3://user:secret@abc"} {
		if l, err := parseLocation(text); exitCode(err) != exitUsage {
			t.Errorf("%s: %+v, %v, want a usage error", text, l, err)
		}
	}
}

func TestLimitsOfABucketComeFromTheEnvironment(t *testing.T) {
	type limits struct {
		up, down, size int64
		requests       int
		dir            string
	}
	of := func(env map[string]string) (limits, error) {
		e := testEnv(t)
		e.LookupEnv = func(name string) (string, bool) {
			v, ok := env[name]
			return v, ok
		}
		o, err := (&app{Env: e}).bucketOptions()
		return limits{o.Up, o.Down, o.CacheSize, o.Requests, o.CacheDir}, err
	}
	if l, err := of(nil); err != nil || l != (limits{size: 1 << 30}) {
		t.Errorf("nothing said: %+v, %v", l, err)
	}
	l, err := of(map[string]string{
		"HOLDFAST_S3_RATE_UP": "50M", "HOLDFAST_S3_RATE_DOWN": "3K", "HOLDFAST_S3_REQUESTS": "7", "HOLDFAST_S3_CACHE": "/c", "HOLDFAST_S3_CACHE_SIZE": "2G",
	})
	if want := (limits{50 << 20, 3 << 10, 2 << 30, 7, "/c"}); err != nil || l != want {
		t.Errorf("%+v, %v; want %+v", l, err, want)
	}
	for name, value := range map[string]string{
		"HOLDFAST_S3_RATE_UP": "0", "HOLDFAST_S3_RATE_DOWN": "fast", "HOLDFAST_S3_REQUESTS": "1025", "HOLDFAST_S3_CACHE_SIZE": "-1",
	} {
		if l, err := of(map[string]string{name: value}); exitCode(err) != exitUsage {
			t.Errorf("%s=%s: %+v, %v, want a usage error", name, value, l, err)
		}
	}
}
