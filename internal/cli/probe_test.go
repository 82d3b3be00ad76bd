package cli

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

func TestProbeSaysWhatABucketIsFitFor(t *testing.T) {
	backend := s3mem.New()
	if err := backend.CreateBucket("backups"); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(srv.Close)
	probe := func(bucket string, args ...string) (string, string, int) {
		var out, serr bytes.Buffer
		env := System("test")
		env.Stdout, env.Stderr = &out, &serr
		env.LookupEnv = func(name string) (string, bool) {
			v, ok := map[string]string{"HOLDFAST_S3_ACCESS_KEY": "key", "HOLDFAST_S3_SECRET_KEY": "secret"}[name]
			return v, ok
		}
		code := Main(t.Context(), env, append([]string{"repository", "probe", "s3://" + bucket + "/x?endpoint=" + srv.URL}, args...))
		return out.String(), serr.String(), code
	}
	out, serr, code := probe("backups")
	if code != exitOK || !strings.Contains(out, "Several machines may write here at once.") {
		t.Errorf("code %d: %s%s", code, out, serr)
	}
	out, serr, code = probe("backups", "--output-format", "json")
	var r struct {
		Fit    bool        `json:"fit"`
		Checks []probeItem `json:"checks"`
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitOK || !r.Fit || len(r.Checks) < 6 {
		t.Errorf("code %d, %v: %s%s", code, err, out, serr)
	}
	if out, serr, code = probe("none"); code != exitNotFound || !strings.Contains(serr, "no such bucket") || strings.Contains(serr, "left below") {
		t.Errorf("no bucket: code %d: %s%s", code, out, serr)
	}
}
