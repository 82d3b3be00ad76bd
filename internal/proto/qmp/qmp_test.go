package qmp_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/holdfast-backup/holdfast/internal/proto/qmp"
)

const greeting = `{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}}` + "\r\n"

// monitor is the other end: it answers each command with what answer returns,
// in which %s stands for the id.
func monitor(t *testing.T, answer func(command string) string) net.Conn {
	t.Helper()
	here, there := net.Pipe()
	go func() {
		defer func() { _ = there.Close() }()
		_, _ = io.WriteString(there, greeting)
		in := bufio.NewReader(there)
		for {
			line, err := in.ReadBytes('\n')
			if err != nil {
				return
			}
			var cmd struct {
				Execute string
				ID      json.RawMessage
			}
			if json.Unmarshal(line, &cmd) != nil {
				return
			}
			text := `{"return": {}, "id": %s}` + "\n"
			if cmd.Execute != "qmp_capabilities" {
				text = answer(cmd.Execute)
			}
			if text == "" {
				return
			}
			_, _ = io.WriteString(there, strings.ReplaceAll(text, "%s", string(cmd.ID)))
		}
	}()
	return here
}

func connect(t *testing.T, answer func(string) string) *qmp.Client {
	t.Helper()
	c, err := qmp.NewClient(t.Context(), monitor(t, answer))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestEventsBetweenCommandAndAnswerAreNoAnswer(t *testing.T) {
	c := connect(t, func(string) string {
		return `{"event": "STOP", "data": {}, "timestamp": {"seconds": 1, "microseconds": 2}}` + "\n" +
			"{\n  \"return\": {\n    \"status\": \"paused\"\n  },\n  \"id\": %s\n}\n" // as with pretty=on
	})
	events := c.Subscribe("STOP", "RESUME")
	defer events.Close()
	var st struct{ Status string }
	if err := c.Run(t.Context(), "query-status", nil, &st); err != nil || st.Status != "paused" {
		t.Fatalf("status %q, %v", st.Status, err)
	}
	if e, err := events.Next(t.Context()); err != nil || e.Name != "STOP" {
		t.Fatalf("event %v, %v", e, err)
	}
	if v := c.Version(); v.String() != "7.2.22" || v.Package != "Debian" {
		t.Errorf("version %v", v)
	}
}

func TestRefusalHasCommandAndWords(t *testing.T) {
	c := connect(t, func(string) string {
		return `{"error": {"class": "CommandNotFound", "desc": "The command x has not been found"}, "id": %s}` + "\n"
	})
	e, ok := errors.AsType[*qmp.Error](c.Run(t.Context(), "x", nil, nil))
	if !ok || e.Class != "CommandNotFound" || e.Command != "x" {
		t.Fatalf("err = %v", e)
	}
}

func TestEndOfQEMUEndsEverythingThatWaits(t *testing.T) {
	c := connect(t, func(string) string { return "" })
	events := c.Subscribe("STOP")
	if err := c.Run(t.Context(), "quit", nil, nil); !errors.Is(err, qmp.ErrClosed) {
		t.Fatalf("err = %v", err)
	}
	if _, err := events.Next(t.Context()); !errors.Is(err, qmp.ErrClosed) {
		t.Fatalf("err = %v", err)
	}
	<-c.Done()
	if err := c.Run(t.Context(), "query-status", nil, nil); !errors.Is(err, qmp.ErrClosed) {
		t.Fatalf("err = %v", err)
	}
}

func TestAnswerThatNobodyWaitsForIsDropped(t *testing.T) {
	late := make(chan struct{})
	c := connect(t, func(command string) string {
		if command == "slow" {
			<-late
			return `{"return": "slow", "id": %s}` + "\n"
		}
		return `{"return": "quick", "id": %s}` + "\n"
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("had enough")
	cancelled := make(chan error)
	go func() { cancelled <- c.Run(ctx, "slow", nil, nil) }()
	cancel(why)
	if err := <-cancelled; !errors.Is(err, why) {
		t.Fatalf("err = %v", err)
	}
	close(late)
	var s string
	if err := c.Run(t.Context(), "quick", nil, &s); err != nil || s != "quick" {
		t.Fatalf("%q, %v", s, err)
	}
}

func TestMonitorInUseIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer func() { _ = there.Close() }()
		if _, err := qmp.NewClient(t.Context(), here); !errors.Is(err, qmp.ErrSilent) {
			t.Fatalf("err = %v", err)
		}
	})
}

func TestSlowReaderOfEventsLosesLaterOnes(t *testing.T) {
	c := connect(t, func(string) string {
		var b strings.Builder
		for i := range 1000 {
			_, _ = fmt.Fprintf(&b, `{"event": "TICK", "data": {"n": %d}}`+"\n", i)
		}
		return b.String() + `{"return": {}, "id": %s}` + "\n"
	})
	events := c.Subscribe("TICK")
	if err := c.Run(t.Context(), "tick", nil, nil); err != nil {
		t.Fatal(err)
	}
	e, err := events.Next(t.Context())
	if err != nil || !bytes.Contains(e.Data, []byte(`"n": 0`)) {
		t.Fatalf("first event %s, %v", e.Data, err)
	}
}

func TestSchemaFindsMembersOfVariants(t *testing.T) {
	c := connect(t, func(string) string {
		return `{"return": [
			{"name": "blockdev-add", "meta-type": "command", "arg-type": "1", "ret-type": "0"},
			{"name": "1", "meta-type": "object", "tag": "driver", "members": [{"name": "driver", "type": "2"}],
			 "variants": [{"case": "copy-before-write", "type": "3"}, {"case": "raw", "type": "0"}]},
			{"name": "0", "meta-type": "object", "members": []},
			{"name": "3", "meta-type": "object", "members": [{"name": "on-cbw-error", "type": "4", "default": null}]}
		], "id": %s}` + "\n"
	})
	s, err := c.Schema(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		path string
		want bool
	}{
		{"blockdev-add", true},
		{"blockdev-add driver", true},
		{"blockdev-add +copy-before-write on-cbw-error", true},
		{"blockdev-add +raw on-cbw-error", false},
		{"blockdev-add +preallocate", false},
		{"blockdev-del", false},
	} {
		path := strings.Fields(tc.path)
		if got := s.Has(path[0], path[1:]...); got != tc.want {
			t.Errorf("%s: %v", tc.path, got)
		}
	}
}

func TestRefusesWhatIsNotTheProtocol(t *testing.T) {
	for _, tc := range []struct{ name, text string }{
		{"an HTTP server", "HTTP/1.1 400 Bad Request\r\n\r\n"},
		{"no greeting", `{"return": {}}`},
		{"two kinds at once", `{"QMP": {}, "event": "STOP"}`},
		{"no end", `{"QMP": "` + strings.Repeat("x", qmp.MaxMessage)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			here, there := net.Pipe()
			go func() { _, _ = io.WriteString(there, tc.text); _ = there.Close() }()
			if _, err := qmp.NewClient(t.Context(), here); !errors.Is(err, qmp.ErrProtocol) {
				t.Fatalf("err = %v", err)
			}
		})
	}
}

// What QEMU could not say to the one before comes first.
func TestAnswersToTheOneBeforeAreNoGreeting(t *testing.T) {
	here, there := net.Pipe()
	go func() {
		_, _ = io.WriteString(there, `{"return": {}, "id": 7}`+"\n"+`{"event": "STOP"}`+"\n"+greeting)
		line := make([]byte, 256)
		_, _ = there.Read(line)
		_, _ = io.WriteString(there, `{"return": {}, "id": 1}`+"\n")
	}()
	c, err := qmp.NewClient(t.Context(), here)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func FuzzMessages(f *testing.F) {
	f.Add([]byte(greeting + `{"return": [], "id": 1}{"event":"STOP"}` + "\n" + `{"error":{"class":"a","desc":"b"}}`))
	f.Add([]byte(`{"return": null}`))
	f.Fuzz(func(t *testing.T, stream []byte) {
		dec := qmp.NewDecoder(bytes.NewReader(stream))
		for range len(stream) + 1 { // every message takes at least a byte
			raw, err := dec.Next()
			if err != nil {
				return
			}
			m, err := qmp.ParseMessage(raw)
			if err != nil {
				if !errors.Is(err, qmp.ErrProtocol) {
					t.Fatalf("err = %v", err)
				}
				continue
			}
			kinds := 0
			for _, set := range []bool{m.Greeting != nil, m.Event != nil, m.Return != nil, m.Error != nil} {
				if set {
					kinds++
				}
			}
			if kinds != 1 {
				t.Fatalf("%q is %d kinds of message", raw, kinds)
			}
		}
		t.Fatal("the stream does not end")
	})
}
