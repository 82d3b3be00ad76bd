package keystore_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/keyfile"
	"github.com/holdfast-backup/holdfast/internal/keystore"
	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/faultfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

const (
	dirName = "config/holdfast"
	keyName = dirName + "/encryption-key.json"
	seeds   = 12 // crashes of each kind at each step
)

// simulated gives any vfs the calls that only a key store needs.
type simulated struct {
	vfs.FS
	inherit error
}

func (d simulated) Claim(oldName, newName string) error {
	if _, err := d.Lstat(newName); err == nil {
		return &fs.PathError{Op: "claim", Path: newName, Err: fs.ErrExist}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.Rename(oldName, newName)
}

func (d simulated) Inherit(string, string) error { return d.inherit }
func (d simulated) Share(string) error           { return d.inherit }

func storeOn(v vfs.FS) keystore.Store {
	return keystore.New(simulated{FS: v}, rand.NewChaCha8([32]byte{7}))
}

// protected is one key under two passwords, and data sealed with it.
type protected struct {
	oldText, newText []byte
	oldPW, newPW     []byte
	plain, sealed    []byte
	proven           map[string]bool // texts known to open the data
}

func newProtected(t *testing.T) *protected {
	t.Helper()
	rng := rand.NewChaCha8([32]byte{1})
	var raw [chunkcrypt.KeySize]byte
	_, _ = rng.Read(raw[:])
	key, err := chunkcrypt.New(raw)
	if err != nil {
		t.Fatal(err)
	}
	p := &protected{
		oldPW: []byte("correct-horse"), newPW: []byte("battery-staple"),
		plain: bytes.Repeat([]byte("the disk of a machine "), 500), proven: map[string]bool{},
	}
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	if p.oldText, err = keyfile.Store(key, now, keyfile.KDFScrypt, p.oldPW, "", now, rng); err != nil {
		t.Fatal(err)
	}
	if p.newText, err = keyfile.Store(key, now, keyfile.KDFPBKDF2, p.newPW, "the long hint, so that lengths differ", now.Add(time.Hour), rng); err != nil {
		t.Fatal(err)
	}
	enc, err := blob.NewEncoder(key, rng, true)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	if p.sealed, err = enc.Append(nil, p.plain); err != nil {
		t.Fatal(err)
	}
	return p
}

// opens proves that a text, with its password, opens the data.
func (p *protected) opens(t *testing.T, text []byte) {
	t.Helper()
	if p.proven[string(text)] {
		return
	}
	pw := p.oldPW
	if bytes.Equal(text, p.newText) {
		pw = p.newPW
	}
	f, err := keyfile.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	key, _, err := f.Unlock(pw)
	if err != nil {
		t.Fatal(err)
	}
	dec, err := blob.NewDecoder(key)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	plain, err := dec.Append(nil, p.sealed, len(p.plain))
	if err != nil || !bytes.Equal(plain, p.plain) {
		t.Fatalf("the data does not open: %v", err)
	}
	p.proven[string(text)] = true
}

// task is creation or change, with what may and must be at the name.
type task struct {
	name string
	old  []byte // nil: absent
	run  func(s keystore.Store) error
}

func (p *protected) tasks() []task {
	return []task{
		{"create", nil, func(s keystore.Store) error {
			if err := s.MakeDir(dirName); err != nil {
				return err
			}
			return s.Save(keyName, p.newText)
		}},
		{"change", p.oldText, func(s keystore.Store) error { return s.Replace(keyName, p.newText) }},
		{"put in place", p.oldText, func(s keystore.Store) error { return s.Put(keyName, p.newText, true) }},
		{"put anew", nil, func(s keystore.Store) error {
			if err := s.MakeDir(dirName); err != nil {
				return err
			}
			return s.Put(keyName, p.newText, true)
		}},
	}
}

// disk is where a task starts: everything durable.
func (w task) disk(t *testing.T) *simdisk.Disk {
	t.Helper()
	d := simdisk.New(simdisk.Options{})
	if w.old != nil {
		s := storeOn(d)
		if err := errors.Join(s.MakeDir(dirName), s.Save(keyName, w.old)); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// check looks at a disk on which a task ran or did not: the name holds the
// old state or the new one, in full, and if acknowledged the new one.
func (p *protected) check(t *testing.T, w task, d *simdisk.Disk, acknowledged bool) {
	t.Helper()
	text, err := d.Content(keyName)
	switch {
	case errors.Is(err, fs.ErrNotExist) && w.old == nil && !acknowledged:
		return
	case err != nil:
		t.Fatal(err)
	case bytes.Equal(text, p.newText):
	case acknowledged || w.old == nil || !bytes.Equal(text, w.old):
		t.Fatalf("the key file holds %d bytes: %.80q", len(text), text)
	}
	p.opens(t, text)
}

// private checks that nobody else could ever read a key.
func private(t *testing.T, d *simdisk.Disk) {
	t.Helper()
	for _, name := range d.Files() {
		info, err := d.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode.Perm() != 0o600 {
			t.Fatalf("%s has mode %v", name, info.Mode)
		}
	}
}

func TestPowerCutAtAnyStepLeavesTheOldOrTheNewKey(t *testing.T) {
	p := newProtected(t)
	for _, w := range p.tasks() {
		t.Run(w.name, func(t *testing.T) {
			start := w.disk(t)
			for step := 0; ; step++ {
				d := start.Clone()
				d.StopAfter(step)
				err := w.run(storeOn(d))
				if err != nil && !errors.Is(err, simdisk.ErrPowerCut) {
					t.Fatal(err)
				}
				p.check(t, w, d.Clone(), err == nil) // killed, without a crash of the machine
				private(t, d.Clone())
				for _, mode := range simdisk.Modes() {
					for seed := range uint64(seeds) {
						crashed := d.CrashAs(mode, rand.New(rand.NewPCG(uint64(step), seed)))
						t.Logf("step %d, crash %v, seed %d, acknowledged %v", step, mode, seed, err == nil)
						p.check(t, w, crashed, err == nil)
						private(t, crashed)
						p.again(t, w, crashed)
					}
				}
				if err == nil {
					if step < 5 {
						t.Fatalf("only %d steps", step)
					}
					return
				}
			}
		})
	}
}

// again runs the task once more on what a crash left, an hour later. It must
// work, and leave nothing but the key.
func (p *protected) again(t *testing.T, w task, d *simdisk.Disk) {
	t.Helper()
	d.Advance(2 * time.Hour)
	if err := w.run(storeOn(d)); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	} else if err == nil {
		if files := d.Files(); len(files) != 1 {
			t.Fatalf("left over: %q", files)
		}
		d = d.CrashAs(simdisk.Nothing, rand.New(rand.NewPCG(1, 1)))
	}
	p.check(t, w, d, true)
}

func TestAnyFailingCallLeavesTheOldOrTheNewKey(t *testing.T) {
	p := newProtected(t)
	kinds := map[string]faultfs.Rule{
		"no space":      {Err: syscall.ENOSPC},
		"disk error":    {Err: syscall.EIO},
		"half a write":  {Err: syscall.ENOSPC, Short: true},
		"lost answer":   {Err: syscall.EIO, Done: true},
		"gone for good": {Err: syscall.EIO, Times: -1},
	}
	for _, w := range p.tasks() {
		for kind, rule := range kinds {
			t.Run(w.name+", "+kind, func(t *testing.T) {
				start := w.disk(t)
				for n := 1; ; n++ {
					r := rule
					r.N = n
					d := start.Clone()
					v := faultfs.New(d, &r)
					err := w.run(storeOn(v))
					t.Logf("call %d fails: %v", n, err)
					p.afterFault(t, w, d, err)
					if !v.Fired() {
						if err != nil {
							t.Fatal(err)
						}
						break
					}
				}
			})
		}
	}
}

func (p *protected) afterFault(t *testing.T, w task, d *simdisk.Disk, err error) {
	t.Helper()
	p.check(t, w, d, err == nil)
	private(t, d)
	if err != nil && !errors.Is(err, keystore.ErrUnsure) {
		text, rerr := d.Content(keyName)
		if same := w.old == nil && errors.Is(rerr, fs.ErrNotExist) || w.old != nil && bytes.Equal(text, w.old); !same {
			t.Fatalf("an error that says nothing happened, and something did: %v", err)
		}
	}
	for seed := range uint64(seeds) {
		p.check(t, w, d.Crash(rand.New(rand.NewPCG(3, seed))), err == nil)
	}
	// When the fault is gone, the same command works or finds the key there.
	if err := w.run(storeOn(d)); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	p.check(t, w, d, true)
}

func TestMadeDirectoriesAreDurable(t *testing.T) {
	d := simdisk.New(simdisk.Options{})
	if err := storeOn(d).MakeDir(dirName); err != nil {
		t.Fatal(err)
	}
	d = d.CrashAs(simdisk.Nothing, rand.New(rand.NewPCG(1, 1)))
	info, err := d.Lstat(dirName)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode != fs.ModeDir|0o700 {
		t.Errorf("mode %v", info.Mode)
	}
}

func TestFullDiskKeepsTheOldKey(t *testing.T) {
	p := newProtected(t)
	for capacity := int64(4096); capacity < 16<<10; capacity += 512 {
		d := simdisk.New(simdisk.Options{Capacity: capacity})
		s := storeOn(d)
		if errors.Join(s.MakeDir(dirName), s.Save(keyName, p.oldText)) != nil {
			continue
		}
		err := s.Replace(keyName, p.newText)
		if err != nil && !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		p.check(t, p.tasks()[1], d, err == nil)
		if files := d.Files(); len(files) != 1 {
			t.Errorf("left over: %q", files)
		}
	}
}

func TestOwnerThatCannotBeKeptFailsTheChange(t *testing.T) {
	p := newProtected(t)
	w := p.tasks()[1]
	d := w.disk(t)
	err := w.run(keystore.New(simulated{d, syscall.EPERM}, rand.NewChaCha8([32]byte{})))
	if !errors.Is(err, syscall.EPERM) {
		t.Fatalf("got %v", err)
	}
	if text, _ := d.Content(keyName); !bytes.Equal(text, p.oldText) {
		t.Error("the key was replaced")
	}
	if files := d.Files(); len(files) != 1 {
		t.Errorf("left over: %q", files)
	}
}

func TestSweepTakesOldLeftoversOnly(t *testing.T) {
	d := simdisk.New(simdisk.Options{})
	make := func(name string) {
		f, err := d.Create(name, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	make(".holdfast-key-0011223344556677.tmp")
	make("notes.tmp")
	d.Advance(2 * time.Hour)
	make(".holdfast-key-8899aabbccddeeff.tmp") // of a command that runs
	if err := storeOn(d).Save("key.json", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if want := []string{".holdfast-key-8899aabbccddeeff.tmp", "key.json", "notes.tmp"}; !slices.Equal(d.Files(), want) {
		t.Errorf("got %q", d.Files())
	}
}

func TestSizeIsBoundedBothWays(t *testing.T) {
	d := simdisk.New(simdisk.Options{})
	s := storeOn(d)
	large := bytes.Repeat([]byte{'x'}, keystore.MaxSize+1)
	if err := s.Save("key", large); !errors.Is(err, keystore.ErrTooLarge) {
		t.Errorf("save: %v", err)
	}
	if err := s.Save("key", large[1:]); err != nil {
		t.Error(err)
	}
	if b, err := s.Load("key"); err != nil || len(b) != keystore.MaxSize {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if err := d.Corrupt("key", func([]byte) []byte { return large }); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load("key"); !errors.Is(err, keystore.ErrTooLarge) {
		t.Errorf("load: %v", err)
	}
}

func TestNothingIsReplacedThatIsNoFile(t *testing.T) {
	d := simdisk.New(simdisk.Options{})
	s := storeOn(d)
	if err := s.MakeDir("dir"); err != nil {
		t.Fatal(err)
	}
	if err := s.Replace("dir", []byte("x")); !errors.Is(err, vfs.ErrNotRegular) {
		t.Errorf("directory: %v", err)
	}
	if err := s.Replace("absent", []byte("x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	if err := s.Save("dir", []byte("x")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("save: %v", err)
	}
}

func TestBrokenRandomSourceStopsEarly(t *testing.T) {
	d := simdisk.New(simdisk.Options{})
	if err := keystore.New(simulated{FS: d}, strings.NewReader("short")).Save("key", nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
	if d.Ops() != 0 {
		t.Error("something was written")
	}
}
