package nbd_test

import (
	"errors"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

func TestURIsParseAndFormat(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want nbd.URI
		out  string // empty: as in
	}{
		{"nbd://localhost", nbd.URI{Host: "localhost", Port: 10809}, "nbd://localhost/"},
		{"nbd:///", nbd.URI{Host: "localhost", Port: 10809}, "nbd://localhost/"},
		{"nbd://example.com:10810/disk", nbd.URI{Host: "example.com", Port: 10810, Export: "disk"}, ""},
		{"nbds://[2001:db8::1]/vm%20100/a%3Fb", nbd.URI{TLS: true, Host: "2001:db8::1", Port: 10809, Export: "vm 100/a?b"}, ""},
		{"nbd://[fe80::1%25eth0]:1/x", nbd.URI{Host: "fe80::1%eth0", Port: 1, Export: "x"}, ""},
		{"nbd://h//abs", nbd.URI{Host: "h", Port: 10809, Export: "/abs"}, ""},
		{"nbd+unix:///?socket=/run/a.sock", nbd.URI{Socket: "/run/a.sock"}, ""},
		{"nbd+unix://?socket=/run/a%20b%2Bc", nbd.URI{Socket: "/run/a b+c"}, "nbd+unix:///?socket=/run/a%20b%2Bc"},
		{"nbds+unix:///disk?socket=s", nbd.URI{TLS: true, Socket: "s", Export: "disk"}, ""},
		{
			"nbds://me@h/e?tls-certificates=/etc/pki&tls-hostname=n&tls-type=x509&tls-verify-peer=0",
			nbd.URI{TLS: true, Host: "h", Port: 10809, Export: "e", User: "me", TLSDir: "/etc/pki", TLSHostname: "n", TLSType: "x509", NoVerify: true},
			"",
		},
		{"nbd:h:10809", nbd.URI{Host: "h", Port: 10809}, "nbd://h/"},
		{"nbd:[::1]:1:exportname=a:b", nbd.URI{Host: "::1", Port: 1, Export: "a:b"}, "nbd://[::1]:1/a:b"},
		{"nbd:unix:/run/a.sock", nbd.URI{Socket: "/run/a.sock"}, "nbd+unix:///?socket=/run/a.sock"},
		{"nbd:unix:/run/a:b:exportname=c", nbd.URI{Socket: "/run/a:b", Export: "c"}, "nbd+unix:///c?socket=/run/a:b"},
	} {
		u, err := nbd.ParseURI(tc.in)
		if err != nil || u != tc.want {
			t.Errorf("%s: %+v, %v; want %+v", tc.in, u, err, tc.want)
		}
		if tc.out == "" {
			tc.out = tc.in
		}
		again, err := nbd.ParseURI(u.String())
		if err != nil || again != u {
			t.Errorf("%s: printed as %s: %+v, %v", tc.in, u, again, err)
		}
		if loose(u.String()) != loose(tc.out) {
			t.Errorf("%s: printed as %s, want %s", tc.in, u, tc.out)
		}
	}
}

// loose makes no difference between escapes that mean the same.
func loose(s string) string {
	for _, r := range [][2]string{{"%3A", ":"}} {
		for i := 0; i+3 <= len(s); i++ {
			if s[i:i+3] == r[0] {
				s = s[:i] + r[1] + s[i+3:]
			}
		}
	}
	return s
}

func TestURIGivesWhatDialWants(t *testing.T) {
	for in, want := range map[string]string{
		"nbd://h/x":              "tcp h:10809",
		"nbd://[::1]:5/x":        "tcp [::1]:5",
		"nbd+unix:///?socket=/s": "unix /s",
	} {
		u, err := nbd.ParseURI(in)
		if got := u.Network() + " " + u.Address(); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", in, got, err, want)
		}
	}
}

func TestParseURIRefuses(t *testing.T) {
	for _, in := range []string{
		"", "disk.img", "http://h/", "nbd", "nbd:", "nbd:h", "nbd:h:", "nbd:h:0", "nbd:h:70000", "nbd:unix:",
		"nbd://h:0/", "nbd://h:x/", "nbd://h/?socket=/s", "nbd+unix:///disk", "nbd+unix://disk?socket=/s",
		"nbd://u:p@h/", "nbd://h/#x", "nbd://h/%00", "nbd://h/%ff", "nbd://h/?tls-verfy-peer=1", "nbd://h/?tls-verify-peer=2",
		"nbds://h/?tls-type=none", "nbd://a b/", "nbd://[::g]/", "nbd://h/?socket=a&socket=b", "nbd+ssh://h/x",
	} {
		if u, err := nbd.ParseURI(in); !errors.Is(err, nbd.ErrFormat) {
			t.Errorf("%q: %+v, %v; want ErrFormat", in, u, err)
		}
	}
}

func FuzzURI(f *testing.F) {
	f.Add("nbd://[fe80::1%25eth0]:1/x")
	f.Add("nbds://me@h/e?tls-certificates=/etc/pki&tls-hostname=n&tls-type=x509&tls-verify-peer=0")
	f.Add("nbd+unix:////abs?socket=/run/a%20b%2Bc")
	f.Add("nbd:unix:/run/a:b:exportname=c")
	f.Add("nbd:[::1]:1:exportname=a:b")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := nbd.ParseURI(s)
		if err != nil {
			if !errors.Is(err, nbd.ErrFormat) {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		if again, err := nbd.ParseURI(u.String()); err != nil || again != u {
			t.Fatalf("%q: %+v printed as %q: %+v, %v", s, u, u, again, err)
		}
	})
}
