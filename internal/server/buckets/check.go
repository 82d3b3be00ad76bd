package buckets

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/objstore"
)

// Check writes an object into a bucket, reads it, and removes it, and so finds out
// whether keys, rights and bucket are right. What else an engine must be able to do,
// objstore/probe knows.
func (c Client) Check(ctx context.Context, bucket, prefix string) (err error) {
	b, err := c.engine(bucket, prefix)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	key := ".s3-client-test-" + rand.Text()
	text := []byte(key)
	if _, err := b.Put(ctx, key, bytes.NewReader(text), objstore.PutOptions{}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Delete(context.WithoutCancel(ctx), []string{key})) }()
	got, _, err := objstore.ReadAll(ctx, b, key, int64(len(text)))
	switch {
	case err != nil:
		return err
	case !bytes.Equal(got, text):
		return fmt.Errorf("object %s does not come back as it was written", key)
	case c.Has(NoConditions):
		return nil
	}
	_, err = b.Put(ctx, key, bytes.NewReader(nil), objstore.PutOptions{If: objstore.IfAbsent})
	switch {
	case errors.Is(err, objstore.ErrPrecondition):
		return nil
	case err == nil:
		return errors.New("the engine replaces an object that must not be there (If-None-Match): no repository can be kept in it")
	}
	return err
}
