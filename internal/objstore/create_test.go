package objstore_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/mem"
)

// doubled is a network that delivers each Put twice, and brings the second answer.
type doubled struct{ objstore.Store }

func (d doubled) Put(ctx context.Context, key string, body objstore.Body, o objstore.PutOptions) (objstore.Info, error) {
	if _, err := d.Store.Put(ctx, key, body, o); err != nil {
		return objstore.Info{}, err
	}
	return d.Store.Put(ctx, key, body, o)
}

func TestAnObjectOfOnesOwnIsCreatedThoughTheNetworkDoublesRequests(t *testing.T) {
	s := doubled{mem.New(time.Now, false)}
	if err := objstore.Create(t.Context(), s, "a", strings.NewReader("mine"), objstore.Retention{}); err != nil {
		t.Error(err)
	}
	if err := objstore.Create(t.Context(), s, "a", strings.NewReader("another"), objstore.Retention{}); !errors.Is(err, objstore.ErrPrecondition) {
		t.Errorf("another body: %v", err)
	}
}

// confused is an engine that takes every key for one that has an object.
type confused struct{ objstore.Store }

func (c confused) Put(ctx context.Context, key string, body objstore.Body, o objstore.PutOptions) (objstore.Info, error) {
	if o.If.Absent() {
		return objstore.Info{}, objstore.ErrPrecondition
	}
	return c.Store.Put(ctx, key, body, o)
}

func TestAnObjectOfOnesOwnIsCreatedWhereTheEngineOnlyThinksThatThereIsOne(t *testing.T) {
	s := confused{mem.New(time.Now, false)}
	if err := objstore.Create(t.Context(), s, "a", strings.NewReader("mine"), objstore.Retention{}); err != nil {
		t.Fatal(err)
	}
	if b, _, err := objstore.ReadAll(t.Context(), s, "a", 100); err != nil || string(b) != "mine" {
		t.Errorf("%q, %v", b, err)
	}
}
