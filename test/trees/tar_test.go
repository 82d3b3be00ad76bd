//go:build linux

package trees

import "testing"

// sameTar lets GNU tar look at both trees and compares what it saw. Extended
// attributes may be in another order, and archives know hard links of regular
// files only.
func sameTar(t *testing.T, want, got string) {
	t.Helper()
	out := must(t, "python3", "-c", `
import subprocess, sys, tarfile

def seen(base):
    p = subprocess.Popen(["tar", "-C", base, "--sort=name", "--format=posix", "--numeric-owner", "--pax-option=delete=atime,delete=ctime",
                          "--acls", "--xattrs", "--xattrs-include=*", "--anchored", "--exclude=./links/s2", "--exclude=./links/fifo2", "-cf", "-", "."],
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    with tarfile.open(fileobj=p.stdout, mode="r|") as f:
        for m in f:
            info = {k: v for k, v in m.get_info().items() if k != "chksum"}
            info["pax"] = {k: v for k, v in m.pax_headers.items() if "SGI_ACL" not in k and "btrfs." not in k}
            if m.isreg():
                body, info["content"] = f.extractfile(m), 0
                while block := body.read(1 << 20):
                    info["content"] = hash((info["content"], block))
            yield info
    if p.wait():
        raise SystemExit("tar: exit " + str(p.returncode))

n, other = 0, seen(sys.argv[2])
for a in seen(sys.argv[1]):
    n += 1
    b = next(other, {})
    if a != b:
        print({k: (v, b.get(k)) for k, v in a.items() if v != b.get(k)})
if n < 100 or next(other, None):
    print("another number of entries, or few:", n)
`, want, got)
	if out != "" {
		t.Errorf("tar sees differences:\n%s", out[:min(len(out), 3000)])
	}
}
