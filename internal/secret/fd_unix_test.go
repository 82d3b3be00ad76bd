//go:build unix

package secret

import (
	"os"
	"strconv"
	"syscall"
	"testing"
)

func TestPasswordIsReadFromADescriptorOnce(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	if _, err := w.WriteString("from fd\n"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.Dup(int(r.Fd())) // the reader closes what it is given
	if err != nil {
		t.Fatal(err)
	}
	s := Source{Lookup: lookup(map[string]string{"PBS_PW_FD": strconv.Itoa(fd)})}
	for _, want := range []string{"from fd", ""} {
		got, err := s.Get(t.Context(), "PW", "password")
		if string(got.Reveal()) != want || (want == "") != (err != nil) {
			t.Fatalf("got %q, %v, want %q", got.Reveal(), err, want)
		}
	}
}
