package repostore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/provider/providertest"
	"github.com/holdfast-backup/holdfast/internal/provider/repostore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/dir"
)

const (
	id  = 100
	mib = 1 << 20
	odd = 9*mib + 512 // its last chunk is not whole
)

var machine = provider.Guest{Kind: provider.QEMU, ID: id}

// site is a machine, a repository, and a service between them.
type site struct {
	*providertest.Machine
	repo    *breakable
	store   provider.Storage
	service *provider.Service
	notes   *provider.Notebook
	options repostore.Options
	clock   int64
	log     []string
}

// breakable is a repository whose sessions can fail.
type breakable struct {
	repo.Repository
	fail func(op string) error // may be nil
	bad  int64                 // the time of a snapshot whose verification failed
}

func (b *breakable) Snapshots(ctx context.Context, ns names.Namespace, g *names.Group) ([]repo.SnapshotInfo, error) {
	list, err := b.Repository.Snapshots(ctx, ns, g)
	for i := range list {
		if list[i].Snapshot.Time == b.bad {
			list[i].Verify = &manifest.VerifyState{State: manifest.VerifyFailed}
		}
	}
	return list, err
}

func (b *breakable) call(op string) error {
	if b.fail == nil {
		return nil
	}
	return b.fail(op)
}

func (b *breakable) Begin(ctx context.Context, o repo.Begin) (repo.Session, error) {
	if err := b.call("begin"); err != nil {
		return nil, err
	}
	s, err := b.Repository.Begin(ctx, o)
	if err != nil {
		return nil, err
	}
	return &session{s, b}, nil
}

type session struct {
	repo.Session
	b *breakable
}

func (s *session) CreateFixed(name names.Archive, size int64, chunk int) (repo.FixedWriter, error) {
	if err := s.b.call("create " + string(name)); err != nil {
		return nil, err
	}
	return s.Session.CreateFixed(name, size, chunk)
}

func (s *session) Finish(ctx context.Context, m *manifest.Manifest) error {
	if err := s.b.call("finish"); err != nil {
		return err
	}
	if err := s.Session.Finish(ctx, m); err != nil {
		return err
	}
	return s.b.call("finished")
}

func newRepository(t *testing.T) *breakable {
	t.Helper()
	path := t.TempDir()
	if err := dir.Create(t.Context(), path, datastore.CreateOptions{Lazy: true}); err != nil {
		t.Fatal(err)
	}
	r, err := dir.Open(path, dir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return &breakable{Repository: r}
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{
		Machine: providertest.Start(t, map[string]int64{"scsi0": 32 * mib, "efidisk0": odd}),
		repo:    newRepository(t),
		clock:   1_700_000_000,
		options: repostore.Options{Origin: "store@host", Owner: "root@pam", Backup: backup.Options{Workers: 2}},
	}
	notes, err := provider.OpenNotebook(t.TempDir(), "store")
	if err != nil {
		t.Fatal(err)
	}
	s.notes = notes
	s.serve()
	s.Write(t, "scsi0", 0, 8*mib, 0x11)
	s.Write(t, "efidisk0", 0, mib, 0x22)
	return s
}

// serve starts the service anew: what it knows is in the repository and the notes.
func (s *site) serve() {
	s.store = repostore.New(s.repo, s.options)
	s.service = provider.New(s.store, provider.Options{Notes: s.notes, PIDFile: s.PIDFile})
}

func (s *site) logf(_ provider.Level, text string) { s.log = append(s.log, text) }

// begin is what comes before backup_vm.
func (s *site) begin(t *testing.T) (name string, disks map[string]provider.Disk) {
	t.Helper()
	s.clock++
	a, err := s.service.BackupInit(machine, time.Unix(s.clock, 0))
	if err != nil {
		t.Fatal(err)
	}
	wish, err := s.service.QueryIncremental(t.Context(), s.logf, id, s.Sizes())
	if err != nil {
		t.Fatal(err)
	}
	return a.Name, s.Setup(t, wish)
}

const config = "memory: 128\nscsi0: local:100/disk\n#qmdump#map:scsi0:drive-scsi0:local:raw:\n"

func (s *site) backupVM(ctx context.Context, name string, disks map[string]provider.Disk) error {
	return s.service.BackupVM(ctx, s.logf, id, name, provider.Machine{Configs: provider.Configs{Guest: []byte(config)}, Disks: disks})
}

// cleanup is backup_cleanup.
func (s *site) cleanup(t *testing.T, success bool) provider.Result {
	t.Helper()
	r, err := s.service.BackupCleanup(t.Context(), s.logf, machine, "", success, "")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// backup is a whole backup that works, with a guest that writes meanwhile.
func (s *site) backup(t *testing.T) (modes string, read int64) {
	t.Helper()
	name, disks := s.begin(t)
	want := s.contents(t)
	s.Write(t, "scsi0", 4*mib, mib, byte(s.clock)) // later than the point
	if err := s.backupVM(t.Context(), name, disks); err != nil {
		t.Fatal(err)
	}
	s.Teardown(t, true)
	r := s.cleanup(t, true)
	s.compare(t, name, want)
	return string(disks["drive-scsi0"].Mode) + " " + string(disks["drive-efidisk0"].Mode), r.Read
}

func (s *site) contents(t *testing.T) map[string][]byte {
	t.Helper()
	return map[string][]byte{"drive-scsi0": s.Content(t, "scsi0"), "drive-efidisk0": s.Content(t, "efidisk0")}
}

// compare reads an archive back.
func (s *site) compare(t *testing.T, name string, want map[string][]byte) {
	t.Helper()
	a, err := s.store.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	src, err := s.store.Open(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = src.Close() }()
	if len(src.Volumes()) != len(want) {
		t.Fatalf("%s has the disks %v", name, src.Volumes())
	}
	for device, content := range want {
		img, err := src.Volume(t.Context(), device)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(io.NewSectionReader(img, 0, img.Size()))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, content) {
			t.Errorf("%s of %s is not what the machine had", device, name)
		}
		_ = img.Close()
	}
}

func (s *site) wantBackup(t *testing.T, wantModes string, wantRead int64) {
	t.Helper()
	modes, read := s.backup(t)
	if modes != wantModes || wantRead >= 0 && read != wantRead {
		t.Errorf("modes %q, %d bytes read; want %q, %d\n%s", modes, read, wantModes, wantRead, strings.Join(s.log, "\n"))
	}
	s.log = nil
}

func TestSecondBackupReadsDirtyRegionsOnly(t *testing.T) {
	s := newSite(t)
	s.wantBackup(t, "new new", -1)
	s.wantBackup(t, "reuse reuse", 4*mib) // what the guest wrote during the first one
	s.Write(t, "efidisk0", odd-512, 512, 0x44)
	s.Write(t, "scsi0", 20*mib, 512, 0x55)
	s.wantBackup(t, "reuse reuse", 8*mib+mib+512)
	for _, d := range []string{"scsi0", "efidisk0"} { // all dirty
		s.Write(t, d, 0, s.Sizes()["drive-"+d], 0x66)
	}
	s.wantBackup(t, "reuse reuse", 32*mib+odd)
	s.serve() // another process goes on
	s.wantBackup(t, "reuse reuse", 4*mib)
}

func TestCleanDisksAreNotRead(t *testing.T) {
	s := newSite(t)
	s.wantBackup(t, "new new", -1)
	s.wantBackup(t, "reuse reuse", 4*mib)
	name, disks := s.begin(t)
	want := s.contents(t)
	if err := s.backupVM(t.Context(), name, disks); err != nil {
		t.Fatal(err)
	}
	s.Teardown(t, true)
	s.cleanup(t, true)
	name, disks = s.begin(t) // nothing was written since
	if err := s.backupVM(t.Context(), name, disks); err != nil {
		t.Fatal(err)
	}
	s.Teardown(t, true)
	if r := s.cleanup(t, true); r.Read != 0 || r.Size < 32*mib+odd {
		t.Errorf("%+v, want nothing read of the whole size", r)
	}
	s.compare(t, name, want)
}

func TestStoredRangesAreTrimmed(t *testing.T) {
	s := newSite(t)
	name, disks := s.begin(t)
	s.Write(t, "scsi0", 0, 8*mib, 0x77) // goes to the scratch disk first
	if s.ScratchUsed(t, "scsi0") < 8*mib {
		t.Fatal("the scratch disk holds nothing")
	}
	if err := s.backupVM(t.Context(), name, disks); err != nil {
		t.Fatal(err)
	}
	if used := s.ScratchUsed(t, "scsi0"); used != 0 {
		t.Errorf("%d bytes of the scratch disk are still in use", used)
	}
	s.Teardown(t, true)
}

// Whatever fails, nothing is listed, and the next backup is incremental to the
// last good one and lacks nothing.
func TestFailureBeforeTheCommitKeepsTheBitmap(t *testing.T) {
	broken := errors.New("repository full")
	for _, op := range []string{"begin", "create drive-efidisk0.img.fidx", "create drive-scsi0.img.fidx", "finish"} {
		t.Run(op, func(t *testing.T) {
			s := newSite(t)
			s.wantBackup(t, "new new", -1)
			s.Write(t, "scsi0", 16*mib, 512, 0x31)
			name, disks := s.begin(t)
			s.Write(t, "efidisk0", 0, 512, 0x32)
			s.repo.fail = func(o string) error {
				if o == op {
					return broken
				}
				return nil
			}
			if err := s.backupVM(t.Context(), name, disks); !errors.Is(err, broken) {
				t.Fatalf("err = %v", err)
			}
			s.repo.fail = nil
			s.Teardown(t, false)
			s.cleanup(t, false)
			s.cleanup(t, false) // twice does no harm
			s.wantArchives(t, 1)
			s.wantBackup(t, "reuse reuse", 4*mib+4*mib+4*mib)
		})
	}
}

func (s *site) wantArchives(t *testing.T, n int) {
	t.Helper()
	list, err := s.store.List(t.Context(), nil)
	if err != nil || len(list) != n {
		t.Fatalf("%d archives (%v), want %d", len(list), err, n)
	}
}

// The answer got lost: the archive is there, and the platform does not know.
func TestFailureAfterTheCommitLosesNoChange(t *testing.T) {
	s := newSite(t)
	s.wantBackup(t, "new new", -1)
	s.Write(t, "scsi0", 16*mib, 512, 0x31)
	name, disks := s.begin(t)
	s.repo.fail = func(op string) error {
		if op == "finished" {
			return errors.New("connection lost")
		}
		return nil
	}
	if err := s.backupVM(t.Context(), name, disks); err == nil {
		t.Fatal("no error")
	}
	s.repo.fail = nil
	s.Teardown(t, false)
	s.cleanup(t, false)
	s.wantArchives(t, 2)
	s.wantBackup(t, "reuse reuse", 8*mib) // more than needed, and all that is
}

// Protecting, pruning or the hook script failed behind backup_vm.
func TestFailureOfTheTaskAfterBackupKeepsTheArchive(t *testing.T) {
	s := newSite(t)
	name, disks := s.begin(t)
	want := s.contents(t)
	if err := s.backupVM(t.Context(), name, disks); err != nil {
		t.Fatal(err)
	}
	s.Teardown(t, true)
	s.cleanup(t, true)
	s.cleanup(t, false)
	if !slices.ContainsFunc(s.log, func(l string) bool { return strings.Contains(l, "is complete and stays") }) {
		t.Errorf("the log does not say that it stays: %q", s.log)
	}
	s.compare(t, name, want)
	s.wantBackup(t, "reuse reuse", 0)
}

func TestAbortedBackupEndsAndKeepsTheBitmap(t *testing.T) {
	s := newSite(t)
	s.wantBackup(t, "new new", -1)
	s.Write(t, "scsi0", 8*mib, 512, 0x41)
	name, disks := s.begin(t)
	reached, held := make(chan struct{}), make(chan struct{})
	s.repo.fail = func(op string) error {
		if op == "create drive-scsi0.img.fidx" {
			close(reached)
			<-held
		}
		return nil
	}
	ended := make(chan error, 1)
	go func() { ended <- s.backupVM(context.WithoutCancel(t.Context()), name, disks) }()
	<-reached
	cleaned := make(chan struct{})
	go func() { s.cleanup(t, false); close(cleaned) }() // it waits for the call
	close(held)
	if err := <-ended; !errors.Is(err, provider.ErrAborted) {
		t.Fatalf("err = %v", err)
	}
	<-cleaned
	s.repo.fail = nil
	s.Teardown(t, false)
	s.wantArchives(t, 1)
	s.wantBackup(t, "reuse reuse", 8*mib)
}

func TestBitmapIsNotUsedWhenItDoesNotCountFromTheNewest(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*testing.T, *site)
		want   string
	}{
		{"machine restarted", func(t *testing.T, s *site) { s.Restart(t) }, "new new"},
		{"newest removed", func(t *testing.T, s *site) {
			list, _ := s.store.List(t.Context(), &machine)
			if err := s.store.Free(t.Context(), list[len(list)-1].Archive); err != nil {
				t.Fatal(err)
			}
		}, "new new"},
		{"notes lost", func(t *testing.T, s *site) { _ = s.notes.Remove(id); s.serve() }, "new new"},
		{"other entry of the configuration", func(_ *testing.T, s *site) { s.options.Origin = "other@host"; s.serve() }, "new new"},
		{"now encrypted", func(_ *testing.T, s *site) {
			s.options.Backup.Key, s.options.Backup.CryptMode = key(t), manifest.ModeEncrypt
			s.serve()
		}, "new new"},
		{"verification failed", func(_ *testing.T, s *site) { s.repo.bad = s.clock }, "new new"},
		{"backup of something else", func(t *testing.T, s *site) {
			s.clock++
			_, err := backup.Run(t.Context(), s.repo, backup.Job{
				Snapshot: names.Snapshot{Group: names.Group{Type: names.VM, ID: fmt.Sprint(id)}, Time: s.clock}, Owner: "root@pam",
				Sources: []backup.Source{
					{Name: "drive-scsi0.img.fidx", Image: zeros(32 * mib)},
					{Name: "drive-efidisk0.img.fidx", Image: zeros(odd)},
				},
			})
			if err != nil {
				t.Fatal(err)
			}
		}, "new new"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSite(t)
			s.wantBackup(t, "new new", -1)
			s.wantBackup(t, "reuse reuse", -1)
			tc.change(t, s)
			s.wantBackup(t, tc.want, -1)
			s.wantBackup(t, "reuse reuse", 4*mib)
		})
	}
}

type zeros int64

func (z zeros) Size() int64 { return int64(z) }
func (z zeros) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	return len(p), nil
}

func (z zeros) ExtentAt(off int64) (image.Extent, error) {
	return image.Extent{Offset: off, Length: int64(z) - off, Kind: image.Zero}, nil
}
