package buckets_test

import (
	"bytes"
	"context"
	"errors"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/server/buckets"
)

// What takes days at the rate is not done when the wait ends, on however slow a machine.
func TestABucketIsHeldToItsRates(t *testing.T) {
	backend := s3mem.New()
	if err := backend.CreateBucket("backups"); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(srv.Close)
	open := func(c buckets.Client) *buckets.Bucket {
		c.Endpoint, c.PathStyle, c.AccessKey = srv.URL, true, "key"
		b, err := c.Open("backups", "tank")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() })
		return b
	}
	body := make([]byte, 1<<20)
	write := func(ctx context.Context, b *buckets.Bucket) error {
		_, err := b.Put(ctx, "o", bytes.NewReader(body), objstore.PutOptions{})
		return err
	}
	read := func(ctx context.Context, b *buckets.Bucket) error {
		_, _, err := objstore.ReadAll(ctx, b, "o", int64(len(body)))
		return err
	}
	if err := write(t.Context(), open(buckets.Client{In: 1})); err != nil {
		t.Fatal(err)
	}
	if err := read(t.Context(), open(buckets.Client{Out: 1})); err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]func(context.Context) error{
		"written": func(ctx context.Context) error { return write(ctx, open(buckets.Client{Out: 1})) },
		"read":    func(ctx context.Context) error { return read(ctx, open(buckets.Client{In: 1})) },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if err := try(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("at a byte a second a mebibyte was %s: %v", name, err)
		}
		cancel()
	}
}
