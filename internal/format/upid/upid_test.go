package upid_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/upid"
)

// verify is the UPID of a manifest in the golden vectors.
const verify = `UPID:pbs:00000123:00ABCDEF:00000001:66607654:verify:store1\x3act-201-66607654:root@pam:`

func TestFieldsOfAKnownUPID(t *testing.T) {
	u, err := upid.Parse(verify)
	want := upid.UPID{
		Node: "pbs", PID: 0x123, PStart: 0xABCDEF, TaskID: 1, Time: 0x66607654,
		Type: "verify", Worker: "store1:ct/201/66607654", Auth: "root@pam",
	}
	if err != nil || u != want {
		t.Fatalf("got %+v, %v, want %+v", u, err, want)
	}
	if u.String() != verify {
		t.Fatalf("prints as %q", u)
	}
	if got := u.Start().UTC().Format(time.RFC3339); got != "2024-06-05T14:29:40Z" {
		t.Errorf("start %s", got)
	}
}

func TestWorkerMayBeEmptyAndDigitsLowerCase(t *testing.T) {
	u, err := upid.Parse("UPID:a-1:0000000a:12345678a:00000000000000ff:00000000:gc::u!t@pbs!tok:")
	if err != nil {
		t.Fatal(err)
	}
	if want := "UPID:a-1:0000000A:12345678A:000000FF:00000000:gc::u!t@pbs!tok:"; u.String() != want {
		t.Fatalf("prints as %q, want %q", u, want)
	}
}

func TestNewTaskOfThisProcess(t *testing.T) {
	u := upid.New("pbs", 0x12, time.Unix(4, 5), "dircreate", "/mnt/x", "root@pam")
	if want := "UPID:pbs:00000012:00000000:00000005:00000004:dircreate:-mnt-x:root@pam:"; u.String() != want {
		t.Fatalf("got %q, want %q", u, want)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tc := range []struct{ name, old, text string }{
		{"no closing colon", "root@pam:", "root@pam"},
		{"one field too many", "root@pam:", "root@pam:x:"},
		{"other prefix", "UPID", "upid"},
		{"empty node", ":pbs:", "::"},
		{"node that ends in a dash", ":pbs:", ":pbs-:"},
		{"node with a dot", ":pbs:", ":p.bs:"},
		{"short pid", "00000123", "123"},
		{"signed pid", "00000123", "+0000123"},
		{"long pid", "00000123", "000000123"},
		{"long start", "66607654:v", "066607654:v"},
		{"long pstart", "00ABCDEF", "0000ABCDEF"},
		{"long task id", "00000001", "00000000000000001"},
		{"empty type", "verify", ""},
		{"space in type", "verify", "ver ify"},
		{"space beyond ASCII in auth id", "root@pam", "root\u2003@pam"},
		{"empty auth id", "root@pam", ""},
		{"slash in worker", "ct-201", "ct/201"},
		{"half an escape", `\x3a`, `\x3` + "g"},
		{"worker that is not UTF-8", `\x3a`, `\xff`},
		{"huge", "verify", strings.Repeat("x", 5000)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := strings.Replace(verify, tc.old, tc.text, 1)
			if u, err := upid.Parse(s); !errors.Is(err, upid.ErrFormat) {
				t.Fatalf("Parse(%q) = %+v, %v, want ErrFormat", s, u, err)
			}
		})
	}
}

func FuzzNewAlwaysParses(f *testing.F) {
	f.Add("pbs.example.org", 123, int64(1717597780), int64(1), "verify", "store1:ct/201", "root@pam")
	f.Add("", -1, int64(-1), int64(1), "", "", "")
	f.Add("-\xff-", 1<<40, int64(1<<40), int64(-1), "a b", "\x00\xff", "a:b\u2003")
	f.Fuzz(func(t *testing.T, node string, pid int, sec, nsec int64, typ, worker, auth string) {
		u := upid.New(node, pid, time.Unix(sec, nsec), typ, worker, auth)
		if again, err := upid.Parse(u.String()); err != nil || again != u {
			t.Fatalf("%q reads as %+v, %v", u, again, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(verify)
	f.Add("UPID:a-1:0000000a:12345678a:00000000000000ff:00000000:gc::u!t@pbs!tok:")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := upid.Parse(s)
		if err != nil {
			return
		}
		if again, err := upid.Parse(u.String()); err != nil || again != u {
			t.Fatalf("%q does not survive a round trip: %+v, %v", s, again, err)
		}
	})
}
