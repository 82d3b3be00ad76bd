package libvirt_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/guest/libvirt"
	"github.com/holdfast-backup/holdfast/internal/guest/libvirt/libvirttest"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

func TestFailedBackupOfADomainCostsNoChange(t *testing.T) {
	for _, runs := range []bool{true, false} {
		t.Run(fmt.Sprint("running=", runs), func(t *testing.T) {
			s := newSite(t)
			m := s.define()
			m.Start()
			m.IO(0, "write -P 0x11 0 1M")
			s.backup(m)
			m.IO(0, "write -P 0x12 1M 64k")
			if !runs {
				m.Stop()
			}
			broken := errors.New("repository full")
			s.repo.Fail = func(op string) error {
				if op == repotest.OpFinish {
					return broken
				}
				return nil
			}
			if _, err := guest.Backup(t.Context(), s.repo, s.guest(m), s.job()); !errors.Is(err, broken) {
				t.Fatalf("err = %v", err)
			}
			s.repo.Fail = nil
			s.wantClean(m)
			wantCheckpoints(t, m, 1)
			r := s.backup(m)
			wantModes(t, r, guest.Reuse, guest.Reuse)
			wantRead(t, r, chunk)
			if m.Active() {
				m.Stop()
			}
			wantBitmaps(t, m, 0, 1)
		})
	}
}

func TestDomainThatIsReadWhileShutDownCannotBeStarted(t *testing.T) {
	s := newSite(t)
	m := s.define()
	j := s.job()
	var started error
	j.Taken = func(guest.Point) { started = m.Libvirt().DomainCreate(m.Dom) }
	r, err := guest.Backup(t.Context(), s.repo, s.guest(m), j)
	if err != nil {
		t.Fatal(err)
	}
	if started == nil || !strings.Contains(started.Error(), "lock") {
		t.Errorf("start: %v", started)
	}
	s.compare(m, r)
	m.Start() // now it can
}

func TestDomainThatEndsMeanwhileIsNotStored(t *testing.T) {
	s := newSite(t)
	m := s.define()
	m.Start()
	j := s.job()
	j.Taken = func(guest.Point) { m.Crash() }
	if _, err := guest.Backup(t.Context(), s.repo, s.guest(m), j); err == nil {
		t.Fatal("a backup of a domain that was killed succeeded")
	}
	if s.repo.Snapshots() != 0 {
		t.Error("a snapshot is visible")
	}
	s.wantClean(m)
	wantModes(t, s.backup(m), guest.New, guest.New)
	wantBitmaps(t, m, 0, 1)
}

func TestPointIsGivenUpBeforeScratchSpaceEnds(t *testing.T) {
	s := newSite(t)
	m := s.define()
	m.Start()
	scratch := filepath.Join(s.dir, "small")
	if err := os.Mkdir(scratch, 0o755); err != nil {
		t.Fatal(err)
	}
	libvirttest.Run(t, "mount", "-t", "tmpfs", "-o", "size=8M", "small", scratch)
	t.Cleanup(func() { _ = exec.Command("umount", "-l", scratch).Run() }) // or removing it fails
	small := func(o *libvirt.Options) { o.ScratchDir, o.Reserve = scratch, 4*mib }
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	j := s.job()
	j.Taken = func(p guest.Point) {
		if err := os.WriteFile(filepath.Join(scratch, "other"), make([]byte, 5*mib), 0o600); err != nil {
			t.Fatal(err)
		}
		for p.Intact(ctx) == nil { // the package's tests end by the test's own deadline
		}
	}
	if _, err := guest.Backup(ctx, s.repo, s.guest(m, small), j); !errors.Is(err, libvirt.ErrScratch) {
		t.Fatalf("err = %v", err)
	}
	if m.HasJob() {
		t.Error("the job is still there")
	}
	m.IO(0, "write -P 0x11 0 1M") // the guest goes on
	if _, err := guest.Backup(ctx, s.repo, s.guest(m, small), s.job()); !errors.Is(err, libvirt.ErrScratch) {
		t.Errorf("a job begins without space: %v", err)
	}
}

func TestJobOfAnotherProgramIsAbortedOnlyOnRequest(t *testing.T) {
	s := newSite(t)
	m := s.define()
	m.Start()
	foreign := filepath.Join(s.dir, "foreign.xml")
	if err := os.WriteFile(foreign, []byte("<domainbackup mode='pull'><server transport='unix' socket='"+s.dir+"/foreign'/></domainbackup>"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.virsh("backup-begin", m.Name, foreign)
	if _, err := guest.Backup(t.Context(), s.repo, s.guest(m), s.job()); !errors.Is(err, libvirt.ErrJob) {
		t.Fatalf("err = %v", err)
	}
	if !m.HasJob() {
		t.Fatal("the job was aborted")
	}
	s.backup(m, func(o *libvirt.Options) { o.AbortJob = true })
}

func TestSecondRunOfTheSameGroupIsRefused(t *testing.T) {
	s := newSite(t)
	m := s.define()
	m.Start()
	j := s.job()
	var second error
	j.Taken = func(guest.Point) {
		_, second = s.guest(m).Begin(t.Context(), guest.Request{Owner: guest.OwnerOf("memory", names.Root, j.Snapshot.Group), ChunkSize: chunk})
	}
	if _, err := guest.Backup(t.Context(), s.repo, s.guest(m), j); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(second, libvirt.ErrBusy) {
		t.Errorf("err = %v", second)
	}
}

func TestUnknownDomainIsSaidToBeUnknown(t *testing.T) {
	s := newSite(t)
	if _, err := s.conn.Guest("nobody", s.options()); !errors.Is(err, libvirt.ErrNoDomain) {
		t.Errorf("err = %v", err)
	}
}
