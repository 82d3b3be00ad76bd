package s3_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/objstore/s3"
)

func TestCredentialsAreFoundWhereAmazonsToolsLook(t *testing.T) {
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".aws"), 0o700); err != nil {
		t.Fatal(err)
	}
	text := "[default]\naws_access_key_id = A\naws_secret_access_key = B\n[other]\naws_access_key_id = C\naws_secret_access_key = D\naws_session_token = E\n[half]\naws_access_key_id = F\n"
	if err := os.WriteFile(filepath.Join(home, ".aws", "credentials"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		env  map[string]string
		want s3.Options
	}{
		{"the environment", map[string]string{"AWS_ACCESS_KEY_ID": "X", "AWS_SECRET_ACCESS_KEY": "Y", "AWS_SESSION_TOKEN": "Z"}, s3.Options{AccessKey: "X", SecretKey: "Y", SessionToken: "Z"}},
		{"the file", nil, s3.Options{AccessKey: "A", SecretKey: "B"}},
		{"a profile", map[string]string{"AWS_PROFILE": "other"}, s3.Options{AccessKey: "C", SecretKey: "D", SessionToken: "E"}},
		{"half of a profile", map[string]string{"AWS_PROFILE": "half"}, s3.Options{}},
		{"half of a key in the environment", map[string]string{"AWS_ACCESS_KEY_ID": "X"}, s3.Options{}},
		{"no profile", map[string]string{"AWS_PROFILE": "none"}, s3.Options{}},
		{"no file", map[string]string{"AWS_SHARED_CREDENTIALS_FILE": "/none"}, s3.Options{}},
	} {
		got, err := s3.AmazonCredentials(func(name string) (string, bool) {
			if name == "HOME" {
				return home, true
			}
			v, ok := tc.env[name]
			return v, ok
		})
		if (err != nil) != (tc.want == s3.Options{}) || got != tc.want {
			t.Errorf("%s: %+v, %v", tc.name, got, err)
		}
	}
}
