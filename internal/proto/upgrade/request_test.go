package upgrade

import (
	"net/url"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
)

func TestRequestsOfRealClientsAreRead(t *testing.T) {
	vm := names.Snapshot{Group: names.Group{Type: names.VM, ID: "100"}, Time: 1717600000}
	deep := vm
	deep.NS = "a/b"
	for query, want := range map[string]Request{
		"backup-id=100&backup-time=1717600000&backup-type=vm&benchmark=false&debug=false&ns=a%2Fb&store=tank": {Store: "tank", Snapshot: deep},
		"backup-id=100&backup-time=1717600000&backup-type=vm&debug=true&ns=&store=tank":                       {Store: "tank", Snapshot: vm, Debug: true},
		"backup-id=100&backup-time=1717600000&backup-type=vm&store=tank&no-cache=1":                           {Store: "tank", Snapshot: vm, NoCache: true},
	} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseRequest(rest.Values(q))
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", query, got, err, want)
		}
		if again, err := ParseRequest(rest.Values(got.Values())); err != nil || again != got {
			t.Errorf("%+v is written as %v, which reads as %+v, %v", got, got.Values(), again, err)
		}
	}
}

func TestRequestRefusesEveryBadName(t *testing.T) {
	good := Request{Store: "tank", Snapshot: names.Snapshot{Group: names.Group{Type: names.Host, ID: "h"}, Time: 1}}.Values()
	for name, bad := range map[string][]string{
		"store":       {"", "..", "a", "ta/nk", ".tank"},
		"ns":          {"..", "a/../b", "/a", "a/b/c/d/e/f/g/h", ".a"},
		"backup-type": {"", "VM", "../vm"},
		"backup-id":   {"", "..", "a/b", ".x", "-x", "a\x00"},
		"backup-time": {"", "0", "-1", "x", "9999999999999999999", "300000000000"},
		"debug":       {"2"},
	} {
		for _, value := range bad {
			q := url.Values{}
			for k, v := range good {
				q[k] = v
			}
			q.Set(name, value)
			if got, err := ParseRequest(rest.Values(q)); rest.StatusOf(err) != 400 || err == nil {
				t.Errorf("%s=%q: %+v, %v", name, value, got, err)
			}
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add("backup-id=100&backup-time=1717600000&backup-type=vm&benchmark=false&debug=false&ns=a%2Fb&store=tank")
	f.Fuzz(func(t *testing.T, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		r, err := ParseRequest(rest.Values(q))
		if err != nil {
			return
		}
		if err := r.Snapshot.Check(); err != nil {
			t.Fatalf("%q passed: %v", query, err)
		}
		if again, err := ParseRequest(rest.Values(r.Values())); err != nil || again != r {
			t.Fatalf("%+v is written as %v, which reads as %+v, %v", r, r.Values(), again, err)
		}
	})
}
