package libvirt_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/guest/libvirt"
)

const victimEnv = "HOLDFAST_TEST_LIBVIRT_VICTIM"

// victim takes a point, says so, and waits to be killed.
func victim(args []string) error {
	a, err := libvirt.ParseAddress(args[0], "")
	if err != nil {
		return err
	}
	c, err := libvirt.Open(context.Background(), a)
	if err != nil {
		return err
	}
	g, err := c.Guest(args[1], libvirt.Options{RunDir: args[2] + "/run", ScratchDir: args[2] + "/scratch", Reserve: mib})
	if err != nil {
		return err
	}
	owner := guest.OwnerOf("memory", names.Root, names.Group{Type: names.VM, ID: "100"})
	b, err := guest.NewBitmap(owner, 1_800_000_000, strings.NewReader("victim"))
	if err != nil {
		return err
	}
	req := guest.Request{New: b, Owner: owner, ChunkSize: chunk, Base: map[string]guest.Base{}}
	if len(args) > 3 {
		req.Base["drive-vda"] = guest.Base{Bitmap: guest.Bitmap(args[3]), Size: 4 * mib}
	}
	if _, err := g.Begin(context.Background(), req); err != nil {
		return err
	}
	fmt.Println("taken")
	select {}
}

// kill lets another process take a point and kills it then.
func (s *site) kill(args ...string) {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.CommandContext(s.t.Context(), self)
	cmd.Env = append(os.Environ(), victimEnv+"="+strings.Join(append([]string{s.d.URI()}, args...), "\n"))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "taken\n" {
		s.t.Errorf("the victim says %q, %v", line, err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // it was killed
}

func TestRunThatIsKilledCostsNoChangeAndLeavesNothing(t *testing.T) {
	for _, runs := range []bool{true, false} {
		t.Run(fmt.Sprint("running=", runs), func(t *testing.T) {
			s := newSite(t)
			m := s.define()
			m.Start()
			m.IO(0, "write -P 0x11 0 1M")
			s.backup(m)
			base := m.Checkpoints()[0]
			m.IO(0, "write -P 0x12 1M 64k")
			if !runs {
				m.Stop()
			}
			s.kill(m.Name, s.dir, base)
			if runs {
				if !m.HasJob() {
					t.Fatal("the victim left no job")
				}
				m.IO(0, "write -P 0x13 2M 64k")
			}
			r := s.backup(m)
			wantModes(t, r, guest.Reuse)
			want := int64(chunk)
			if runs {
				want = 2 * chunk
			}
			wantRead(t, r, want)
			wantModes(t, s.backup(m), guest.Reuse, guest.Reuse)
			if runs {
				m.Stop()
			}
			wantBitmaps(t, m, 0, 1)
			wantBitmaps(t, m, 1, 1)
		})
	}
}
