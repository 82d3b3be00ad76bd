package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/kernel/fusemount"
	"github.com/holdfast-backup/holdfast/internal/mapping"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestScripts(t *testing.T) {
	samples, err := filepath.Abs("../format/pxar/testdata")
	if err != nil {
		t.Fatal(err)
	}
	engine := &engine{home: t.TempDir()}
	t.Cleanup(engine.end)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOLDFAST_REPOSITORY", filepath.Join(e.WorkDir, "repo"))
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("TZ", "UTC")
			e.Setenv("SAMPLES", samples)
			e.Setenv("CATALOGS", filepath.Join(samples, "../../catalog/testdata"))
			e.Setenv("CHECK", filepath.Join(samples, "../../../../test/check"))
			e.Setenv("XDG_STATE_HOME", filepath.Join(e.WorkDir, "state"))
			e.Setenv("HOLDFAST_RUN_DIR", filepath.Join(e.WorkDir, "run"))
			return os.Mkdir(filepath.Join(e.WorkDir, "home"), 0o700)
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Geteuid() == 0, nil
			case "libvirt":
				return hasLibvirt()
			case "versitygw":
				return hasGateway()
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":     exits,
			"image":     makeImage,
			"damage":    damage,
			"samefile":  sameFile,
			"qcow2":     makeQcow2,
			"awaitfile": awaitFile,
			"mapped":    mapped,
			"mounted":   mounted,
			"archives":  makeArchives,
			"serve":     serve,
			"inside":    inside,
			"loopmount": loopMount,
			"unfreeze":  unfreeze,
			"libvirtd":  startLibvirt,
			"bucket":    engine.bucket,
			"user":      engine.user,
			"atnow":     engine.atNow,
		},
	})
}

// exits CODE COMMAND ARGS... runs a command that must end with the code.
// exits -stdin FILE CODE ... gives it standard input.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	if err != nil {
		ts.Fatalf("exits: %v", err)
	}
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if err != nil {
		var ee interface{ ExitCode() int }
		if !errors.As(err, &ee) {
			ts.Fatalf("exits: %v", err)
		}
		got = ee.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// serve runs a server of the configuration until the script ends. It sets $SERVER
// to its address, $FINGERPRINT and $OTHERPRINT to what its certificate has and has
// not, and writes the former into the file fingerprints.
func serve(ts *testscript.TestScript, _ bool, _ []string) {
	program := filepath.Join(strings.Split(ts.Getenv("PATH"), string(os.PathListSeparator))[0], "holdfast")
	cmd := exec.Command(program, "server", "run", "--listen", "127.0.0.1:0")
	cmd.Dir = ts.Getenv("WORK")
	for _, name := range []string{"PATH", "HOME", "TZ", "WORK", "HOLDFAST_SERVER_CONFIG", "GOCOVERDIR"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	var server, print string
	if _, serr := fmt.Sscanf(line, "serving on %s fingerprint %s", &server, &print); err != nil || serr != nil {
		ts.Fatalf("the server says %q: %v, %v", line, err, serr)
	}
	server = strings.TrimSuffix(server, ",")
	ts.Setenv("SERVER", server)
	ts.Setenv("PORT", server[strings.LastIndex(server, ":")+1:])
	ts.Setenv("FINGERPRINT", print)
	other := "00" + print[2:]
	if other == print {
		other = "11" + print[2:]
	}
	ts.Setenv("OTHERPRINT", other)
	ts.Check(os.WriteFile(ts.MkAbs("fingerprints"), []byte("pbs.example.org "+other+"\n127.0.0.1 "+print+"\n"), 0o600))
}

// awaitfile FILE waits until a process in the background has made it.
func awaitFile(ts *testscript.TestScript, _ bool, args []string) {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if _, err := os.Lstat(ts.MkAbs(args[0])); err == nil {
			return
		}
	}
	ts.Fatalf("no %s after 20 s", args[0])
}

// mapped sets $DEV to the device that the last command printed, and unmaps
// everything of this script in the end.
func mapped(ts *testscript.TestScript, _ bool, _ []string) {
	_, dev, ok := strings.Cut(strings.TrimSpace(ts.ReadFile("stdout")), " mapped on ")
	if !ok {
		ts.Fatalf("nothing was mapped")
	}
	ts.Setenv("DEV", dev)
	dir := ts.Getenv("HOLDFAST_RUN_DIR")
	ts.Defer(func() {
		_, _ = mapping.Unmap(context.Background(), dir, "", mapping.UnmapOptions{Force: true, All: true})
	})
}

// mounted DIR unmounts it in the end, if the script does not.
func mounted(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Defer(func() { _ = fusemount.Unmount(context.Background(), dir, true) })
}

// image FILE SEED MIB: noise, text, zeros and a hole of that size.
func makeImage(ts *testscript.TestScript, _ bool, args []string) {
	seed, err := strconv.ParseUint(args[1], 10, 64)
	ts.Check(err)
	mib, err := strconv.ParseInt(args[2], 10, 64)
	ts.Check(err)
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	var key [32]byte
	key[0] = byte(seed)
	noise := make([]byte, 300<<10)
	_, err = rand.NewChaCha8(key).Read(noise)
	ts.Check(err)
	write := func(b []byte, at int64) {
		_, err := f.WriteAt(b, at)
		ts.Check(err)
	}
	ts.Check(f.Truncate(mib<<20 + 512))
	write(noise, 0)
	write(bytes.Repeat([]byte(fmt.Sprintf("text %d ", seed)), 30<<10), 5<<20)
	write([]byte("the end"), mib<<20)
	ts.Check(f.Close())
}

// damage KIND TREE...: flips a byte of, truncates or removes the largest
// regular file below a directory whose name has the given ending.
func damage(ts *testscript.TestScript, _ bool, args []string) {
	kind, root, suffix := args[0], ts.MkAbs(args[1]), args[2]
	var victim string
	var size int64 = -1
	ts.Check(filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !strings.HasSuffix(path, suffix) {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() > size {
			victim, size = path, info.Size()
		}
		return err
	}))
	if victim == "" {
		ts.Fatalf("damage: nothing below %s ends in %q", root, suffix)
	}
	switch kind {
	case "remove":
		ts.Check(os.Remove(victim))
	case "truncate":
		ts.Check(os.Truncate(victim, size/2))
	case "flip":
		f, err := os.OpenFile(victim, os.O_RDWR, 0)
		ts.Check(err)
		b := make([]byte, 1)
		_, err = f.ReadAt(b, size-3)
		ts.Check(err)
		b[0] ^= 0x10
		_, err = f.WriteAt(b, size-3)
		ts.Check(err)
		ts.Check(f.Close())
	default:
		ts.Fatalf("damage: unknown kind %q", kind)
	}
}

// qcow2 FILE BACKING: the header of an empty image of 1 MiB on a backing file.
func makeQcow2(ts *testscript.TestScript, _ bool, args []string) {
	backing := []byte(args[1])
	h := make([]byte, 4*65536)
	be := binary.BigEndian
	copy(h, "QFI\xfb")
	be.PutUint32(h[4:], 3)
	be.PutUint64(h[8:], 512) // backing file name
	be.PutUint32(h[16:], uint32(len(backing)))
	be.PutUint32(h[20:], 16)        // cluster bits
	be.PutUint64(h[24:], 1<<20)     // size
	be.PutUint32(h[36:], 1)         // L1 entries
	be.PutUint64(h[40:], 3*65536)   // L1 table
	be.PutUint64(h[48:], 65536)     // refcount table
	be.PutUint32(h[56:], 1)         // its clusters
	be.PutUint32(h[96:], 4)         // refcount order
	be.PutUint32(h[100:], 104)      // header length
	be.PutUint64(h[65536:], 131072) // the one refcount block
	for i := range 4 {
		be.PutUint16(h[131072+2*i:], 1)
	}
	copy(h[512:], backing)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), h, 0o600))
}

func sameFile(ts *testscript.TestScript, neg bool, args []string) {
	a, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	b, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	if bytes.Equal(a, b) == neg {
		ts.Fatalf("%s and %s: same is %v", args[0], args[1], !neg)
	}
}
