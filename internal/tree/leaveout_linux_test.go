package tree_test

import (
	"bytes"
	"os"
	"os/exec"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/tree"
)

// entries archives a directory and returns what the archive has, by name.
func entries(t *testing.T, dir string, o tree.Options) map[string]*pxar.Entry {
	t.Helper()
	var b bytes.Buffer
	if _, err := tree.Archive(t.Context(), dir, tree.Output{Meta: &b}, o); err != nil {
		t.Fatal(err)
	}
	a, err := pxar.OpenArchive(bytes.NewReader(b.Bytes()), int64(b.Len()), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*pxar.Entry{"": a.Root().Entry()}
	for e, err := range a.Root().Entries() {
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name] = e
	}
	return all
}

func TestMetadataThatIsNotWantedIsLeftOut(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("capabilities are set by root")
	}
	for _, tool := range []string{"setfacl", "setfattr", "setcap"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not here", tool)
		}
	}
	dir := t.TempDir()
	script := `cd "$1"; echo x >f; chmod 640 f; setfattr -n user.note -v hi f; setcap cap_net_raw+ep f; setfacl -m u:1000:rwx f`
	if out, err := exec.Command("bash", "-c", script, "-", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f := entries(t, dir, tree.Options{})["f"]
	if len(f.Xattrs) != 1 || f.FCaps == nil || f.ACL == nil || f.Mode != 0o100670 {
		t.Fatalf("with all of it: %+v", f)
	}
	f = entries(t, dir, tree.Options{LeaveOut: filemeta.SetOf(filemeta.Xattrs)})["f"]
	if f.Xattrs != nil || f.FCaps == nil || f.ACL == nil {
		t.Errorf("without extended attributes: %+v", f)
	}
	f = entries(t, dir, tree.Options{LeaveOut: filemeta.SetOf(filemeta.FCaps)})["f"]
	if len(f.Xattrs) != 1 || f.FCaps != nil || f.ACL == nil {
		t.Errorf("without capabilities: %+v", f)
	}
	f = entries(t, dir, tree.Options{LeaveOut: filemeta.SetOf(filemeta.ACLs)})["f"]
	if len(f.Xattrs) != 1 || f.FCaps == nil || f.ACL != nil || f.Mode != 0o100640 {
		t.Errorf("without ACLs, so that the group can read and no more: %+v", f)
	}
}

func TestKindsThatAreNotWantedAreLeftOut(t *testing.T) {
	dir := t.TempDir()
	script := `cd "$1"; mkfifo p; ln -s x l; : >f`
	if out, err := exec.Command("bash", "-c", script, "-", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if all := entries(t, dir, tree.Options{}); len(all) != 4 {
		t.Fatalf("%d entries, want 4", len(all))
	}
	all := entries(t, dir, tree.Options{LeaveOutKinds: []pxar.Kind{pxar.FIFO, pxar.Socket}})
	if len(all) != 3 || all["p"] != nil {
		t.Errorf("%d entries, want 3 and no FIFO", len(all))
	}
}

func TestArchiveDoesNotHoldItself(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/other", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(dir + "/a.pxar")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if all := entries(t, dir, tree.Options{}); len(all) != 3 {
		t.Fatalf("%d entries, want 3", len(all))
	}
	if all := entries(t, dir, tree.Options{Outputs: []*os.File{f}}); len(all) != 2 || all["a.pxar"] != nil {
		t.Errorf("%d entries, want 2 without the archive", len(all))
	}
}
