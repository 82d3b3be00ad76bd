// Package gateway runs a real engine of object stores for tests: versitygw, which
// keeps objects as files, checks signatures and rights, and has object lock.
//
// test/packages builds the program once into the user's cache directory. Where it is
// missing tests are skipped with the reason, and fail when CI is "true".
package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/holdfast-backup/holdfast/internal/objstore/s3"
)

// Version is the one that tests are made for; test/packages builds it.
const Version = "v1.8.0"

// The keys of who may do everything.
const (
	AccessKey = "holdfast"
	SecretKey = "secret-of-the-tests"
)

const startTime = 20 * time.Second

// Gateway is a server that runs until its test ends.
type Gateway struct {
	Endpoint string // http://127.0.0.1:port
	Dir      string // has a directory for each bucket, and the objects as files in it
	program  string
	client   *minio.Client
}

// Program is where the server is, once it was built.
func Program() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "holdfast", "versitygw-"+Version)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("there is no versitygw %s: %w", Version, err)
	}
	return path, nil
}

// Start runs a server with an empty directory until the test ends.
func Start(t testing.TB) *Gateway {
	t.Helper()
	if _, err := Program(); err != nil {
		lack(t, err)
	}
	g, stop, err := Run(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return g
}

// lack skips the test for want of the program, or fails it when CI is "true".
func lack(t testing.TB, reason error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%v (test/packages builds what the tests need)", reason)
	}
	t.Skipf("%v (test/packages builds what the tests need)", reason)
}

// Run runs a server below a directory until stop, which kills it. The directory is empty,
// or what an earlier server left.
func Run(ctx context.Context, home string) (g *Gateway, stop func(), err error) {
	program, err := Program()
	if err != nil {
		return nil, nil, err
	}
	g = &Gateway{Dir: filepath.Join(home, "buckets"), program: program}
	for _, dir := range []string{"buckets", "meta", "old", "users"} {
		if err := os.MkdirAll(filepath.Join(home, dir), 0o700); err != nil {
			return nil, nil, err
		}
	}
	for try := 1; ; try++ {
		if stop, err = g.start(ctx, home); err == nil {
			break
		}
		if try == 3 { // somebody else was given the port each time
			return nil, nil, err
		}
	}
	g.client, err = minio.New(strings.TrimPrefix(g.Endpoint, scheme), &minio.Options{Creds: credentials.NewStaticV4(AccessKey, SecretKey, ""), Region: "us-east-1"})
	if err != nil {
		stop()
		return nil, nil, err
	}
	return g, stop, nil
}

const scheme = "http://"

// start runs the server on a port that is free now.
func (g *Gateway) start(ctx context.Context, home string) (end func(), err error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	in := func(name string) string { return filepath.Join(home, name) }
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx)) // what cleans up behind a test still asks it
	cmd := exec.CommandContext(ctx, g.program, "--port", port, "--keep-alive", "--quiet", "--health", "/health", "--iam-dir", in("users"), "--iam-cache-disable",
		"posix", "--sidecar", in("meta"), "--versioning-dir", in("old"), g.Dir)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+AccessKey, "ROOT_SECRET_KEY="+SecretKey)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		stop()
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	end = func() {
		stop()
		<-ended
	}
	g.Endpoint = scheme + port
	if err := g.await(ctx, ended); err != nil {
		end()
		return nil, fmt.Errorf("versitygw does not start: %w: %s", err, said.Bytes())
	}
	return end, nil
}

func freePort(ctx context.Context) (string, error) {
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

var errEnded = errors.New("it ended")

// await returns when the server answers.
func (g *Gateway) await(ctx context.Context, ended chan error) error {
	ctx, stop := context.WithTimeout(ctx, startTime)
	defer stop()
	for {
		q, err := http.NewRequestWithContext(ctx, http.MethodGet, g.Endpoint+"/health", nil)
		if err != nil {
			return err
		}
		a, err := http.DefaultClient.Do(q)
		if err == nil {
			return a.Body.Close()
		}
		select {
		case err := <-ended:
			ended <- err
			return fmt.Errorf("%w: %w", errEnded, err)
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Bucket makes a bucket and returns its address, without a prefix. With lock its
// objects can be retained.
func (g *Gateway) Bucket(t testing.TB, name string, lock bool) s3.Address {
	t.Helper()
	if err := g.MakeBucket(t.Context(), name, lock); err != nil {
		t.Fatal(err)
	}
	return g.Address(t, name)
}

// MakeBucket makes a bucket.
func (g *Gateway) MakeBucket(ctx context.Context, name string, lock bool) error {
	return g.client.MakeBucket(ctx, name, minio.MakeBucketOptions{ObjectLocking: lock})
}

// Address is that of a bucket.
func (g *Gateway) Address(t testing.TB, path string) s3.Address {
	t.Helper()
	a, err := s3.ParseAddress("s3://" + path + "?endpoint=" + g.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Open opens a bucket with the keys that may do everything.
func (g *Gateway) Open(t testing.TB, at s3.Address) *s3.Store {
	t.Helper()
	return g.OpenAs(t, at, AccessKey, SecretKey)
}

// OpenAs opens a bucket with these keys.
func (g *Gateway) OpenAs(t testing.TB, at s3.Address, access, secret string) *s3.Store {
	t.Helper()
	s, err := s3.Open(at, s3.Options{AccessKey: access, SecretKey: secret})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// User makes a user who may do these things in a bucket and with its objects, as
// "s3:GetObject", and returns the secret key.
func (g *Gateway) User(t testing.TB, access, bucket string, actions ...string) (secret string) {
	t.Helper()
	secret, err := g.MakeUser(t.Context(), access, bucket, actions...)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

// MakeUser makes a user as User does. The bucket has one such user.
func (g *Gateway) MakeUser(ctx context.Context, access, bucket string, actions ...string) (secret string, err error) {
	secret = "secret-of-" + access
	cmd := exec.CommandContext(ctx, g.program, "admin", "--access", AccessKey, "--secret", SecretKey, "--endpoint-url", g.Endpoint,
		"create-user", "--access", access, "--secret", secret, "--role", "user")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("make user %s: %w: %s", access, err, out)
	}
	return secret, g.client.SetBucketPolicy(ctx, bucket, policy(access, bucket, actions))
}

// Undelete brings back what was removed from a bucket with object lock, as an administrator does:
// removals are marks there, and go themselves.
func (g *Gateway) Undelete(t testing.TB, bucket string) {
	t.Helper()
	for o := range g.client.ListObjects(t.Context(), bucket, minio.ListObjectsOptions{Recursive: true, WithVersions: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		if !o.IsDeleteMarker {
			continue
		}
		if err := g.client.RemoveObject(t.Context(), bucket, o.Key, minio.RemoveObjectOptions{VersionID: o.VersionID}); err != nil {
			t.Fatal(err)
		}
	}
}

// Destroy tries to remove every version of every object for good, and returns the keys of those that
// the engine let go.
func (g *Gateway) Destroy(t testing.TB, bucket string) (destroyed []string) {
	t.Helper()
	for o := range g.client.ListObjects(t.Context(), bucket, minio.ListObjectsOptions{Recursive: true, WithVersions: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		if o.IsDeleteMarker {
			continue
		}
		err := g.client.RemoveObject(t.Context(), bucket, o.Key, minio.RemoveObjectOptions{VersionID: o.VersionID})
		if err == nil {
			destroyed = append(destroyed, o.Key)
		}
	}
	return destroyed
}
