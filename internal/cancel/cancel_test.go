package cancel_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/cancel"
)

var errEnough = errors.New("enough")

func TestASleepLastsAsLongAsItShould(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		for _, d := range []time.Duration{time.Hour, 0, -time.Hour} {
			if err := cancel.Sleep(t.Context(), d); err != nil {
				t.Error(err)
			}
		}
		if d := time.Since(start); d != time.Hour {
			t.Errorf("it slept %v", d)
		}
	})
}

func TestASleepEndsWithTheCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithTimeoutCause(t.Context(), time.Minute, errEnough)
		defer end()
		start := time.Now()
		for _, d := range []time.Duration{time.Hour, time.Hour, 0, -1} {
			if err := cancel.Sleep(ctx, d); !errors.Is(err, errEnough) {
				t.Errorf("%v: %v", d, err)
			}
		}
		if d := time.Since(start); d != time.Minute {
			t.Errorf("it slept %v", d)
		}
	})
}

func TestAReaderEndsWithTheCause(t *testing.T) {
	ctx, end := context.WithCancelCause(t.Context())
	r := cancel.Reader(ctx, strings.NewReader("some words"))
	if _, err := io.ReadFull(r, make([]byte, 4)); err != nil {
		t.Error(err)
	}
	end(errEnough)
	if b, err := io.ReadAll(r); !errors.Is(err, errEnough) || len(b) > 0 {
		t.Errorf("%q, %v", b, err)
	}
}
