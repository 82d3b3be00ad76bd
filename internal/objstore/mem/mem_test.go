package mem_test

import (
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/mem"
	"github.com/holdfast-backup/holdfast/internal/objstore/objtest"
)

func TestMemoryKeepsWhatAnObjectStorePromises(t *testing.T) {
	objtest.Run(t, objtest.Abilities{IfTag: true, Lock: true}, func(*testing.T) objstore.Store { return mem.New(time.Now, true) })
}
