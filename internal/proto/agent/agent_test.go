package agent_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/proto/agent"
	"github.com/holdfast-backup/holdfast/internal/proto/qmp"
)

// serve is an agent that begins its first answer with noise and answers with what answer says.
func serve(conn net.Conn, noise string, answer func(command string) string) {
	r := bufio.NewReader(conn)
	out := make(chan string, 16) // as a socket buffers
	defer close(out)
	go func() {
		for text := range out {
			_, _ = io.WriteString(conn, text)
		}
	}()
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return
		}
		if noise != "" {
			out <- noise
			noise = ""
		}
		sync := line[0] == 0xff
		var cmd struct {
			Execute   string
			Arguments struct{ ID json.RawMessage }
		}
		if json.Unmarshal([]byte(strings.TrimPrefix(string(line), "\xff")), &cmd) != nil {
			return
		}
		if sync {
			out <- fmt.Sprintf("\xff{\"return\": %s}\n", cmd.Arguments.ID)
			continue
		}
		out <- answer(cmd.Execute)
	}
}

func client(t *testing.T, noise string, answer func(string) string) *agent.Client {
	t.Helper()
	here, there := net.Pipe()
	go serve(there, noise, answer)
	c := agent.NewClient(here)
	t.Cleanup(func() { _ = c.Close(); _ = there.Close() })
	return c
}

func TestAnswersOfSomeoneElseAreSkipped(t *testing.T) {
	c := client(t, "{\"return\": 77}\n{\"return\": \xff{\"return\": 5}\n{\"err", func(string) string { return "{\"return\": 3}\n" })
	if n, err := c.Freeze(t.Context()); err != nil || n != 3 {
		t.Fatalf("froze %d, %v", n, err)
	}
}

func TestRefusalIsTheAgentsOwnWords(t *testing.T) {
	c := client(t, "", func(string) string {
		return `{"error": {"class": "GenericError", "desc": "the command is disabled"}}` + "\n"
	})
	_, err := c.Thaw(t.Context())
	if e, ok := errors.AsType[*qmp.Error](err); !ok || e.Command != "guest-fsfreeze-thaw" || e.Desc != "the command is disabled" {
		t.Fatalf("err = %v", err)
	}
}

func TestLateAnswerDoesNotSpoilTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		go serve(there, "", func(command string) string {
			if command == "guest-fsfreeze-freeze" {
				time.Sleep(time.Minute)
				return "{\"return\": 1}\n"
			}
			return "{\"return\": \"thawed\"}\n"
		})
		c := agent.NewClient(here)
		defer func() { _ = c.Close(); _ = there.Close() }()
		ctx, cancel := context.WithTimeoutCause(t.Context(), 58*time.Second, errors.New("too slow"))
		defer cancel()
		if _, err := c.Freeze(ctx); err == nil || !strings.Contains(err.Error(), "too slow") {
			t.Fatalf("err = %v", err)
		}
		if frozen, err := c.Frozen(t.Context()); err != nil || frozen {
			t.Fatalf("frozen %v, %v", frozen, err)
		}
	})
}

func TestSilenceSaysThatNoAgentRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, there) }()
		c := agent.NewClient(here)
		defer func() { _ = c.Close(); _ = there.Close() }()
		if _, err := c.Frozen(t.Context()); !errors.Is(err, agent.ErrSilent) {
			t.Fatalf("err = %v", err)
		}
	})
}

func TestEndlessAnswerIsRefused(t *testing.T) {
	c := client(t, "", func(string) string { return `{"return": "` + strings.Repeat("x", 2<<20) })
	if err := c.Run(t.Context(), "guest-info", nil, nil); !errors.Is(err, agent.ErrProtocol) {
		t.Fatalf("err = %v", err)
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add([]byte(`{"return": {}}`))
	f.Add([]byte(`{"error": {"class": "GenericError", "desc": "no"}}` + "\n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		ret, err := agent.ParseAnswer(line)
		if err == nil && !json.Valid(ret) {
			t.Fatalf("%q is no JSON", ret)
		}
		_, refused := errors.AsType[*qmp.Error](err)
		if err != nil && !refused && !errors.Is(err, agent.ErrProtocol) {
			t.Fatalf("err = %v", err)
		}
	})
}
