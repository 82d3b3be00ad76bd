package ext_test

import (
	"bytes"
	"sync"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread/ext"
	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
)

func TestManyReadersAtOnceSeeTheSame(t *testing.T) {
	f, err := ext.Open(fsreadtest.OpenFile(t, small(t, someFiles(t))))
	if err != nil {
		t.Fatal(err)
	}
	var lists [8]bytes.Buffer
	var wg sync.WaitGroup
	for i := range lists {
		wg.Go(func() {
			for range 20 {
				lists[i].Reset()
				if err := fsreadtest.List(f, &lists[i]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for i := range lists {
		if !bytes.Equal(lists[i].Bytes(), lists[0].Bytes()) {
			t.Errorf("reader %d saw something else", i)
		}
	}
}
