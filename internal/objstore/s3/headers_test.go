package s3_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/objstore"
)

// What an address and a call say of how an object is to be kept is what the engine hears.
func TestHowObjectsAreToBeKeptIsInTheRequest(t *testing.T) {
	until := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	const class, sse, key, mode = "X-Amz-Storage-Class", "X-Amz-Server-Side-Encryption", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id", "X-Amz-Object-Lock-Mode"
	for _, tc := range []struct {
		name, class, sse string
		put              objstore.PutOptions
		want             map[string]string
	}{
		{name: "nothing said"},
		{name: "a storage class", class: "STANDARD_IA", want: map[string]string{class: "STANDARD_IA"}},
		{name: "another for this object", class: "STANDARD_IA", put: objstore.PutOptions{Class: "GLACIER_IR"}, want: map[string]string{class: "GLACIER_IR"}},
		{name: "the engine's own keys", sse: "s3", want: map[string]string{sse: "AES256"}},
		{name: "a key of a key service", sse: "kms:some/key", want: map[string]string{sse: "aws:kms", key: "some/key"}},
		{name: "governance", put: objstore.PutOptions{Retain: objstore.Retention{Mode: objstore.Governance, Until: until}}, want: map[string]string{mode: "GOVERNANCE"}},
		{name: "compliance", put: objstore.PutOptions{Retain: objstore.Retention{Mode: objstore.Compliance, Until: until}}, want: map[string]string{mode: "COMPLIANCE"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var heard http.Header
			at := fake(t, func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					heard = r.Header.Clone()
					next.ServeHTTP(w, r)
				})
			})
			at.Class, at.SSE = tc.class, tc.sse
			if _, err := open(t, at).Put(t.Context(), "x", strings.NewReader("x"), tc.put); err != nil {
				t.Fatal(err)
			}
			for _, h := range []string{class, sse, key, mode} {
				if got := heard.Get(h); got != tc.want[h] {
					t.Errorf("%s is %q, want %q", h, got, tc.want[h])
				}
			}
			want := ""
			if !tc.put.Retain.IsZero() {
				want = until.Format(time.RFC3339)
			}
			if got := heard.Get("X-Amz-Object-Lock-Retain-Until-Date"); got != want {
				t.Errorf("locked until %q, want %q", got, want)
			}
		})
	}
}
