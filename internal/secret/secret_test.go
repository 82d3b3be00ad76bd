package secret

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func lookup(m map[string]string) func(string) (string, bool) {
	return func(k string) (string, bool) { v, ok := m[k]; return v, ok }
}

func TestPasswordComesFromTheFirstFormThatIsSet(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pw")
	if err := os.WriteFile(file, []byte("from file\r\nsecond line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		env  map[string]string
		want string
	}{
		{"ours before theirs", map[string]string{"PBS_PW": "p", "HOLDFAST_PW": "h"}, "h"},
		{"plain before file", map[string]string{"PBS_PW": "p", "PBS_PW_FILE": "/nonexistent"}, "p"},
		{"empty is a value", map[string]string{"PBS_PW": ""}, ""},
		{"file", map[string]string{"PBS_PW_FILE": file}, "from file"},
		{"command", map[string]string{"HOLDFAST_PW_CMD": "echo from $((1+1)) cmd; echo more"}, "from 2 cmd"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Source{Lookup: lookup(tc.env)}.Get(t.Context(), "PW", "password")
			if err != nil || string(got.Reveal()) != tc.want {
				t.Fatalf("got %q, %v, want %q", got.Reveal(), err, tc.want)
			}
		})
	}
}

func TestBrokenSourceIsAnErrorThatNamesTheVariable(t *testing.T) {
	for k, v := range map[string]string{
		"PBS_PW_FD": "x", "PBS_PW_FILE": "/nonexistent/pw", "PBS_PW_CMD": "exit 3", "HOLDFAST_PW_FD": "-1",
	} {
		_, err := Source{Lookup: lookup(map[string]string{k: v})}.Get(t.Context(), "PW", "password")
		if err == nil || !strings.Contains(err.Error(), k) {
			t.Errorf("%s=%s: err = %v", k, v, err)
		}
	}
}

func TestWithoutTerminalTheErrorNamesTheVariable(t *testing.T) {
	_, err := Source{Lookup: lookup(nil)}.Get(t.Context(), "ENCRYPTION_PASSWORD", "password of the key /k")
	m, ok := errors.AsType[*MissingError](err)
	if !ok || m.Env != "PBS_ENCRYPTION_PASSWORD" || !strings.Contains(err.Error(), "/k") {
		t.Fatalf("err = %v", err)
	}
}

type answers struct{ list []string }

func (a *answers) Ask(string) (Secret, error) {
	s := a.list[0]
	a.list = a.list[1:]
	return New([]byte(s)), nil
}

func TestNewPasswordIsTypedTwiceAlike(t *testing.T) {
	s := Source{Lookup: lookup(nil), Asker: &answers{[]string{"a", "a", "a", "b"}}}
	if got, err := s.GetNew(t.Context(), "PW", "new password"); err != nil || string(got.Reveal()) != "a" {
		t.Fatalf("got %q, %v", got.Reveal(), err)
	}
	if _, err := s.GetNew(t.Context(), "PW", "new password"); err == nil {
		t.Fatal("different passwords were accepted")
	}
}

func TestSecretsCannotBePrinted(t *testing.T) {
	s := New([]byte("hunter2"))
	j, err := json.Marshal(struct{ S Secret }{s})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "s", s)
	for _, out := range []string{
		fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s %x %q", s, s, s, s, s, s), fmt.Sprintf("%v", &s), string(j), log.String(),
	} {
		if strings.Contains(out, "hunter2") || strings.Contains(out, "68756e746572") {
			t.Errorf("printed %q", out)
		}
	}
}
