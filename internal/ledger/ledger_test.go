package ledger_test

import (
	"errors"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/ledger"
	"github.com/holdfast-backup/holdfast/internal/objstore/mem"
)

func set(key, value string) func(*ledger.Tx) error {
	return func(tx *ledger.Tx) error { tx.Set(key, []byte(value)); return nil }
}

func TestWhatOneWritesTheOtherReads(t *testing.T) {
	s := mem.New(time.Now, false)
	if err := ledger.Create(t.Context(), s, ledger.Options{Who: "a/1"}, map[string][]byte{"meta": []byte(`{"id": 1}`)}); err != nil {
		t.Fatal(err)
	}
	if err := ledger.Create(t.Context(), s, ledger.Options{}, nil); !errors.Is(err, ledger.ErrExists) {
		t.Fatalf("err = %v, want ErrExists", err)
	}
	a, err := ledger.Open(t.Context(), s, ledger.Options{Who: "a/1"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := ledger.Open(t.Context(), s, ledger.Options{Who: "b/1"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		n, err := a.Update(t.Context(), set("x", string(rune('0'+i%10))))
		if err != nil || n != uint64(i)+2 {
			t.Fatalf("entry %d, err = %v", n, err)
		}
		if i%3 == 0 {
			st, err := b.View(t.Context())
			if err != nil || st.Seq() != n {
				t.Fatalf("seq %d, want %d, err = %v", st.Seq(), n, err)
			}
		}
	}
	c, err := ledger.Open(t.Context(), s, ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if v, _ := c.Seen().Get("meta"); string(v) != `{"id":1}` || c.Seen().Seq() != 301 {
		t.Fatalf("meta = %s at %d", v, c.Seen().Seq())
	}
}
