package repoerr

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/proto/rest"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// across sends an error through an answer.
func across(err error) error {
	w := httptest.NewRecorder()
	rest.Fail(w, ToWire(err))
	return FromWire(rest.Answer(w.Result(), nil))
}

func TestKindsOfErrorsCrossTheWire(t *testing.T) {
	all := []error{repo.ErrNotFound, repo.ErrExists, repo.ErrLocked, repo.ErrProtected, repo.ErrOwner, repo.ErrChunkMissing}
	for _, kind := range all {
		sent := fmt.Errorf("start backup vm/100: %w", kind)
		got := across(sent)
		for _, other := range all {
			if errors.Is(got, other) != (other == kind) {
				t.Errorf("%v arrives as %v: is it %v?", sent, got, other)
			}
		}
		if got.Error() != sent.Error() {
			t.Errorf("%q arrives as %q", sent, got)
		}
	}
	if _, ok := errors.AsType[*repo.CorruptError](across(&repo.CorruptError{What: "chunk", Err: errors.New("bad CRC")})); !ok {
		t.Error("corrupt data arrives as something else")
	}
	for _, err := range []error{errors.New("input/output error"), fmt.Errorf("x: %w", &rest.Error{Status: 403, Text: "permission check failed"})} {
		got := across(err)
		if e, ok := errors.AsType[*rest.Error](got); !ok || e.Kind != "" || e.Text != err.Error() {
			t.Errorf("%v arrives as %v", err, got)
		}
	}
}

func TestSentencesOfOtherServersAreUnderstood(t *testing.T) {
	for text, want := range map[string]error{
		"cannot remove protected snapshot: snapshot \"vm/100/2024\" is protected":        repo.ErrProtected,
		"backup owner check failed (joe@pbs != root@pam)":                                repo.ErrOwner,
		"while creating locked backup group 'vm/100': unable to acquire lock \"/run/x\"": repo.ErrLocked,
		"unable to open snapshot \"/tank/vm/100\": ENOENT: No such file or directory":    repo.ErrNotFound,
		"backup timestamp is older than last backup.":                                    repo.ErrExists,
		"backup directory already exists.":                                               repo.ErrExists,
		"no such datastore 'tank'":                                                       repo.ErrNotFound,
		"namespace not found":                                                            repo.ErrNotFound,
		"something else entirely":                                                        nil,
	} {
		err := FromWire(&rest.Error{Status: 400, Text: text})
		for _, kind := range []error{repo.ErrNotFound, repo.ErrExists, repo.ErrLocked, repo.ErrProtected, repo.ErrOwner} {
			if errors.Is(err, kind) != (kind == want) {
				t.Errorf("%q: is it %v?", text, kind)
			}
		}
	}
	if err := FromWire(&rest.Error{Status: 401, Text: "user not found"}); errors.Is(err, repo.ErrNotFound) {
		t.Error("who is not let in has not been told what is there")
	}
}
