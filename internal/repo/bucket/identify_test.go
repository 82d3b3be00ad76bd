package bucket_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/mem"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

func TestARepositoryThatIsMadeAnewHasAnotherName(t *testing.T) {
	var ids []string
	for range 2 {
		s := mem.New(time.Now, false)
		if _, err := bucket.Identify(t.Context(), s); !errors.Is(err, objstore.ErrNotFound) {
			t.Errorf("an empty bucket: %v, want ErrNotFound", err)
		}
		if err := bucket.Create(t.Context(), s, bucket.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		id, err := bucket.Identify(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if ids[0] == ids[1] || ids[0] == "" {
		t.Errorf("names: %q", ids)
	}
	for _, text := range []string{"", "{}", `{"format":"other","version":1,"id":"x"}`} {
		s := mem.New(time.Now, false)
		if _, err := s.Put(t.Context(), catalog.MarkerKey, strings.NewReader(text), objstore.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := bucket.Identify(t.Context(), s); err == nil {
			t.Errorf("%q is taken for a marker", text)
		} else if _, bad := errors.AsType[*repo.CorruptError](err); !bad {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestWhatIsThereForItsTimeOnlyIsNotKept(t *testing.T) {
	for key, want := range map[string]bool{
		catalog.MarkerKey: false, "clock/x": false, "lease/0000000000000001/00000001": false, "other": false, "": false,
		"s/0000000000000001/p00000001": true, "s/0000000000000001/snapshot": true, "log/fffffffffffffffe": true, "state/fffffffffffffffe": true,
	} {
		if got := bucket.Unchanging(key); got != want {
			t.Errorf("%q: %v", key, got)
		}
	}
}
