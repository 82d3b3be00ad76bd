package s3_test

import (
	"errors"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/objstore/s3"
)

func TestAddressSaysWhereABucketIs(t *testing.T) {
	for text, want := range map[string]s3.Address{
		"s3://backups": {Bucket: "backups", Endpoint: "s3.amazonaws.com", Region: "us-east-1"},
		"s3://b.c-d/one/two/?region=eu-1&endpoint=https://host:9000": {
			Bucket: "b.c-d", Prefix: "one/two", Endpoint: "host:9000", Region: "eu-1", PathStyle: true,
		},
		"s3://abc?endpoint=http://127.0.0.1:80&path-style=no&storage-class=COLD&sse=kms:k/1&checksum=md5": {
			Bucket: "abc", Endpoint: "127.0.0.1:80", Plain: true, Region: "us-east-1", Class: "COLD", SSE: "kms:k/1", MD5: true,
		},
	} {
		got, err := s3.ParseAddress(text)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", text, got, err, want)
		}
	}
}

func TestAddressIsWrittenForPeople(t *testing.T) {
	for _, text := range []string{"s3://abc", "s3://abc/p%20q", "s3://abc?endpoint=http://127.0.0.1:80", "s3://abc/p?endpoint=https://host&region=eu-1&sse=kms:a/b%253Ac%26d"} {
		if a, err := s3.ParseAddress(text); err != nil || a.String() != text {
			t.Errorf("%s is written as %s, %v", text, a, err)
		}
	}
}

func TestAddressRefuses(t *testing.T) {
	for _, text := range []string{
		"", "/dir", "s3://", "s3://ab", "s3://Bucket", "s3://-ab", "s3://a..b", "s3://key:secret@bucket", "s3://bucket/../x", "s3://bucket?endpoint=host",
		"s3://bucket?endpoint=https://host/path", "s3://bucket?regio=x", "s3://bucket?path-style=true", "s3://bucket?sse=kms:", "s3://bucket?checksum=none", "s3://bucket?%zz",
		"s3://bucket?region=a&region=b",
	} {
		if a, err := s3.ParseAddress(text); !errors.Is(err, s3.ErrAddress) {
			t.Errorf("%q: %+v, %v", text, a, err)
		}
	}
}

func FuzzAddress(f *testing.F) {
	f.Add("s3://abc/p%20q?endpoint=http://127.0.0.1:80&path-style=no&storage-class=COLD&sse=kms:k&checksum=md5")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := s3.ParseAddress(text)
		if err != nil {
			return
		}
		again, err := s3.ParseAddress(a.String())
		if err != nil || again != a {
			t.Fatalf("%q is %+v, its text %q is %+v, %v", text, a, a.String(), again, err)
		}
	})
}
