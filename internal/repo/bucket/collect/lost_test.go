package collect

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

// Which shards a collection reads depends on what changed, and on what is condemned. Whenever it
// is that one turns out to be lost, everything is counted from nothing.
func TestAnyShardMayBeLostAtAnyTime(t *testing.T) {
	lost := 0
	for _, full := range []bool{false, true} {
		for _, changed := range []bool{false, true} {
			for i, there := 0, true; there; i++ {
				t.Run(fmt.Sprintf("full %v, changed %v, shard %d", full, changed, i), func(t *testing.T) {
					w := newWorld(t, nil)
					var all []string
					for k := range 4 {
						n := w.backup(fmt.Sprint(k), chunks(fmt.Sprint("a", k, "-"), 0, 30)...)
						if k%2 == 0 {
							w.forget(n)
						}
					}
					w.collect()
					root, _, err := catalog.Get[catalog.Collected](w.view(), catalog.GCKey)
					if err != nil {
						t.Fatal(err)
					}
					for _, key := range w.keys("s/") {
						if strings.Contains(key, "/r") && key != root.State {
							all = append(all, key)
						}
					}
					if there = i < len(all); !there {
						return
					}
					lost++
					w.delete(all[i])
					if changed {
						w.backup("9", chunks("b", 0, 3)...)
					}
					w.pass(30 * time.Hour) // what is condemned is removed now
					w.opt.Full = full
					for range 3 {
						for _, warning := range w.warnings() {
							if !strings.Contains(warning, "counted from nothing") && !strings.Contains(warning, "could not be compared") {
								t.Errorf("%s", warning)
							}
						}
						w.check()
						w.pass(30 * time.Hour)
					}
					w.opt.Full = false
					w.audit()
					w.collect()
					w.check()
				})
			}
		}
	}
	if lost < 8 {
		t.Errorf("only %d shards were lost", lost)
	}
}
