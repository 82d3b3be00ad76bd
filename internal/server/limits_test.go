package server

import (
	"net/netip"
	"strconv"
	"testing"
	"time"
)

func TestNetworksTellClientsApart(t *testing.T) {
	for from, want := range map[string]string{
		"192.0.2.7:1234":           "192.0.2.7",
		"[::ffff:192.0.2.7]:1234":  "192.0.2.7",
		"[2001:db8:1:2:3:4:5:6]:1": "2001:db8:1:2::",
		"[2001:db8:1:2::ffff]:1":   "2001:db8:1:2::",
		"[fe80::1%eth0]:1":         "fe80::",
		"nonsense":                 "invalid IP",
		"[2001:db8:1:3::1]:1":      "2001:db8:1:3::",
	} {
		if got := network(from).String(); got != want {
			t.Errorf("%s is %s, want %s", from, got, want)
		}
	}
}

func TestTurnsComeAtTheRate(t *testing.T) {
	r := newRates(Limits{Requests: 10, Burst: 2}.orDefaults())
	now := time.Unix(1_700_000_000, 0)
	var waits []time.Duration
	for range 5 {
		w, ok := r.take("ann@pbs", now)
		if !ok {
			t.Fatal("refused")
		}
		waits = append(waits, w)
	}
	if waits[1] != 0 || waits[2] != 100*time.Millisecond || waits[4] != 300*time.Millisecond {
		t.Errorf("the waits are %v", waits)
	}
	for range 1000 { // nobody waits longer than five seconds, and those who are refused do not count
		if w, ok := r.take("ann@pbs", now); !ok && w > 6*time.Second {
			t.Fatalf("a request would have to wait %v", w)
		}
	}
	if w, _ := r.take("bob@pbs", now); w != 0 {
		t.Errorf("another one waits %v", w)
	}
	if w, ok := r.take("ann@pbs", now.Add(time.Minute)); !ok || w != 0 {
		t.Errorf("a minute later: %v, %v", w, ok)
	}
}

func TestRatesOfManyAreForgotten(t *testing.T) {
	r := newRates(Limits{}.orDefaults())
	now := time.Unix(1_700_000_000, 0)
	for i := range 50000 {
		r.take(strconv.Itoa(i), now)
	}
	if len(r.of) > 10000 {
		t.Errorf("%d are remembered", len(r.of))
	}
}

func TestConnectionsAreCountedByNetwork(t *testing.T) {
	l := limit(nil, Limits{Connections: 3, PerAddress: 2})
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	try := func(a netip.Addr, times int) (got int) {
		for range times {
			if l.enter(a) {
				got++
			}
		}
		return got
	}
	if n := try(a, 3); n != 2 {
		t.Errorf("one address has %d connections, want 2", n)
	}
	if n := try(b, 2); n != 1 {
		t.Errorf("another has %d of those that are left, want 1", n)
	}
	l.leave(a)
	if n := try(b, 2); n != 1 {
		t.Errorf("%d after one ended, want 1", n)
	}
	l.leave(a)
	l.leave(b)
	l.leave(b)
	if l.all != 0 || len(l.from) != 0 {
		t.Errorf("%d are left: %v", l.all, l.from)
	}
}

func TestAttachmentsHaveHarmlessNames(t *testing.T) {
	if got := attachment("a\r\nSet-Cookie: x\"ö/b.txt"); got != `attachment; filename="a__Set-Cookie: x___b.txt"` {
		t.Errorf("%s", got)
	}
}
