//go:build linux

package trees

import (
	"maps"
	"slices"
	"testing"
)

// Attributes stand in the order in which the kernel lists them to the existing
// client, which compares names in order when it looks for unchanged files. XFS
// has another order for large buffers; Python begins with the same 256 bytes.
func TestAttributesStandInTheOrderOfTheExistingClient(t *testing.T) {
	need(t, "python3", "zstd")
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		t.Run(kind, func(t *testing.T) {
			p := mounted(t, kind)
			src := p.filled(t, "source", "--big", "1")
			s := newStore(t)
			snap, _ := s.backup(exitOK, "order", "root.pxar:"+src)
			out := must(t, "python3", "-c", `
import os, sys
sys.path.insert(0, "../check")
import pxar
base, repo, snapshot = sys.argv[1:]
compared = 0
for e in pxar.Repository(repo, None).archive(snapshot, "root.pxar"):
    plain = lambda names: [n for n in names if n.startswith(("user.", "trusted.")) and "SGI_ACL" not in n]
    got = plain(e.get("xattrs", {}))
    if len(got) > 1 and len(e["path"]) < 2000:
        want = plain(os.listxattr(os.path.join(base, e["path"])))
        compared += 1
        if got != want:
            print(e["path"], got[:5], want[:5])
if compared < 3:
    print("only", compared, "entries with attributes")
`, src, s.dir, snap)
			if out != "" {
				t.Errorf("in another order:\n%s", out)
			}
		})
	}
}
