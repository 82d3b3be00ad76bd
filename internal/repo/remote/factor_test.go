package remote

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/access/ticket"
)

// The challenges of a server, as PBS writes them too.
var challenges = []struct {
	text string
	want Factors
}{
	{`{"totp":true}`, Factors{TOTP: true}},
	{`{"recovery":[0,3,9]}`, Factors{Recovery: true}},
	{`{"totp":true,"recovery":[]}`, Factors{TOTP: true}},
	{`{"totp":true,"recovery":[1],"webauthn":{"publicKey":{"rpId":"a:b"}}}`, Factors{true, true}},
	{`{"webauthn":{}}`, Factors{}},
}

func ticketOf(t testing.TB, challenge string) string {
	t.Helper()
	private, _, err := ticket.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := ticket.ParsePrivate(private)
	if err != nil {
		t.Fatal(err)
	}
	text, err := k.Partial("ann@pbs", challenge, time.Unix(1<<30, 0), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestChallengesSayWhatThereIsToAnswerWith(t *testing.T) {
	for _, tc := range challenges {
		got, err := parseChallenge(ticketOf(t, tc.text))
		if err != nil || got != tc.want {
			t.Errorf("%s: %+v, %v", tc.text, got, err)
		}
	}
	for _, bad := range []string{"PBS:!tfa!", "PBS:!tfa!%zz:0::x", "PBS:!tfa![]:0::x", "PBS:!tfa!{\"totp\":1}:0::x"} {
		if f, err := parseChallenge(bad); err == nil {
			t.Errorf("%s: %+v", bad, f)
		}
	}
}

func TestAnAnswerSaysOfWhichKindItIs(t *testing.T) {
	both, totp, recovery := Factors{true, true}, Factors{TOTP: true}, Factors{Recovery: true}
	for _, tc := range []struct {
		f          Factors
		said, want string
	}{
		{both, "123456", "totp:123456"},
		{both, " 123 456\n", "totp:123456"},
		{both, "0123-4567-89ab-cdef", "recovery:0123-4567-89ab-cdef"},
		{totp, "abc", "totp:abc"},
		{recovery, "123456", "recovery:123456"},
		{both, "", "recovery:"},
	} {
		if got := tc.f.answer(tc.said); got != tc.want {
			t.Errorf("%+v %q: %q, want %q", tc.f, tc.said, got, tc.want)
		}
	}
}

// Whatever a server sends, there is an answer or an error, and what is asked for can be
// asked for again.
func FuzzChallenge(f *testing.F) {
	for _, tc := range challenges {
		f.Add(ticketOf(f, tc.text), "123456")
	}
	f.Fuzz(func(t *testing.T, text, code string) {
		got, err := parseChallenge(text)
		if err != nil {
			return
		}
		again := `{"totp":` + fmt.Sprint(got.TOTP) + `}`
		if got.Recovery {
			again = `{"totp":` + fmt.Sprint(got.TOTP) + `,"recovery":[1]}`
		}
		if f, err := parseChallenge(ticketOf(t, again)); err != nil || f != got {
			t.Fatalf("%+v became %+v, %v", got, f, err)
		}
		if a := got.answer(code); !strings.HasPrefix(a, "totp:") && !strings.HasPrefix(a, "recovery:") {
			t.Fatalf("%q is no answer", a)
		}
	})
}
