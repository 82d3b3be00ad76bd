package s3

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

// AmazonCredentials finds keys where Amazon's tools look for them: in
// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, else in the
// profile AWS_PROFILE ("default") of AWS_SHARED_CREDENTIALS_FILE
// (~/.aws/credentials).
func AmazonCredentials(lookup func(string) (string, bool)) (Options, error) {
	get := func(name string) string {
		v, _ := lookup(name)
		return v
	}
	o := Options{AccessKey: get("AWS_ACCESS_KEY_ID"), SecretKey: get("AWS_SECRET_ACCESS_KEY"), SessionToken: get("AWS_SESSION_TOKEN")}
	if o.AccessKey != "" && o.SecretKey != "" {
		return o, nil
	}
	if (o.AccessKey == "") != (o.SecretKey == "") {
		return Options{}, errors.New("of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY only one is set")
	}
	file, profile := get("AWS_SHARED_CREDENTIALS_FILE"), get("AWS_PROFILE")
	if file == "" {
		file = filepath.Join(get("HOME"), ".aws", "credentials")
	}
	if profile == "" {
		profile = "default"
	}
	v, err := credentials.NewFileAWSCredentials(file, profile).GetWithContext(nil)
	if err != nil {
		return Options{}, fmt.Errorf("no credentials for the object store in the environment or in profile %s of %s: %w", profile, file, err)
	}
	if v.AccessKeyID == "" || v.SecretAccessKey == "" {
		return Options{}, fmt.Errorf("no credentials for the object store in the environment or in profile %s of %s", profile, file)
	}
	return Options{AccessKey: v.AccessKeyID, SecretKey: v.SecretAccessKey, SessionToken: v.SessionToken}, nil
}
