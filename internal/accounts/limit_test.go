package accounts

import (
	"fmt"
	"testing"
	"time"
)

func TestFailuresOfManyAreKeptInBoundedMemory(t *testing.T) {
	var l limiter
	now := time.Unix(1717600000, 0)
	for i := range 3 * maxTracked {
		l.failed(now.Add(time.Duration(i)*time.Millisecond), name{fmt.Sprint(i), 0})
		if len(l.names) > maxTracked {
			t.Fatalf("%d names", len(l.names))
		}
	}
	end := now.Add(3 * maxTracked * time.Millisecond)
	if err := l.wait(end, name{fmt.Sprint(3*maxTracked - 1), 0}); err == nil {
		t.Error("the last one is forgotten")
	}
	for i := range 2 * maxTracked { // all at one time
		l.failed(end, name{fmt.Sprint("x", i), 0})
	}
	if len(l.names) > maxTracked {
		t.Fatalf("%d names", len(l.names))
	}
}

func TestNetworksOfAddresses(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64", "": "", "@": "@",
	} {
		if got := network(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
