package cli

import (
	"context"
	"os"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/holdfast-backup/holdfast/internal/objstore/objtest/gateway"
)

// engine is a real engine of object stores, which the scripts share.
type engine struct {
	home string
	once sync.Once
	err  error
	stop func()
	*gateway.Gateway
}

// hasGateway reports whether there is one to be run. In CI there is.
func hasGateway() (bool, error) {
	_, err := gateway.Program()
	if err != nil && os.Getenv("CI") != "true" {
		return false, nil
	}
	return err == nil, err
}

func (e *engine) start(ts *testscript.TestScript) {
	e.once.Do(func() { e.Gateway, e.stop, e.err = gateway.Run(context.Background(), e.home) })
	ts.Check(e.err)
}

func (e *engine) end() {
	if e.stop != nil {
		e.stop()
	}
}

// bucket NAME [lock] makes a bucket of the engine. It sets $BUCKET to its address, to
// which options can be added, $FILES to the directory with its objects, and the keys of
// who may do everything.
func (e *engine) bucket(ts *testscript.TestScript, _ bool, args []string) {
	e.start(ts)
	ts.Check(e.MakeBucket(context.Background(), args[0], len(args) > 1))
	ts.Setenv("ENDPOINT", e.Endpoint)
	ts.Setenv("BUCKET", "s3://"+args[0]+"/some/prefix?endpoint="+e.Endpoint)
	ts.Setenv("FILES", e.Dir+"/"+args[0])
	ts.Setenv("HOLDFAST_S3_ACCESS_KEY", gateway.AccessKey)
	ts.Setenv("HOLDFAST_S3_SECRET_KEY", gateway.SecretKey)
}

// user NAME BUCKET ACTION... makes a user who may do these things, and sets the keys.
func (e *engine) user(ts *testscript.TestScript, _ bool, args []string) {
	secret, err := e.MakeUser(context.Background(), args[0], args[1], args[2:]...)
	ts.Check(err)
	ts.Setenv("HOLDFAST_S3_ACCESS_KEY", args[0])
	ts.Setenv("HOLDFAST_S3_SECRET_KEY", secret)
}

// atnow FILE names the bucket as it was at the time in the file.
func (e *engine) atNow(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv("HOLDFAST_REPOSITORY", ts.Getenv("BUCKET")+"&at="+strings.TrimSpace(ts.ReadFile(args[0])))
}
