package pbsbucket_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/mem"
	"github.com/holdfast-backup/holdfast/internal/repo/pbsbucket"
)

// written is what testdata/pbs-4.2.1.json says of pbs-4.2.1.tar.gz: the objects that
// Proxmox Backup Server 4.2.1 had in a bucket of versitygw after backups by
// its own client, what it listed, and what its client restored.
type written struct {
	Key        string // of the encrypted backup, base64
	Namespaces []names.Namespace
	Lists      map[names.Namespace][]struct {
		ID        string           `json:"backup-id"`
		Time      int64            `json:"backup-time"`
		Type      names.BackupType `json:"backup-type"`
		Comment   string
		Owner     string
		Protected bool
		Files     []struct {
			Filename string
			Mode     string `json:"crypt-mode"`
			Size     uint64
		}
		Fingerprint string
		Verify      *struct{ State, UPID string } `json:"verification"`
	}
	Archives map[string]struct { // by path
		Size   int64
		SHA256 string
	}
}

// bucket is what the server wrote, and how often it was asked for something.
type bucket struct {
	*mem.Store
	lists, gets, busy, most atomic.Int64
	// get, when set, is asked before each Get.
	get  func(key string) error
	slow time.Duration // each Get takes so long
}

func (b *bucket) List(ctx context.Context, prefix, after string, limit int) ([]objstore.Info, bool, error) {
	b.lists.Add(1)
	return b.Store.List(ctx, prefix, after, limit)
}

func (b *bucket) Get(ctx context.Context, key string, off, n int64) (objstore.Object, error) {
	b.gets.Add(1)
	now := b.busy.Add(1)
	for most := b.most.Load(); now > most && !b.most.CompareAndSwap(most, now); most = b.most.Load() {
	}
	defer b.busy.Add(-1)
	time.Sleep(b.slow)
	if b.get != nil {
		if err := b.get(key); err != nil {
			return objstore.Object{}, err
		}
	}
	return b.Store.Get(ctx, key, off, n)
}

// change replaces an object, or makes one.
func (b *bucket) change(t *testing.T, key string, f func([]byte) []byte) {
	t.Helper()
	old, _, err := objstore.ReadAll(t.Context(), b.Store, key, 1<<30)
	if err != nil && !errors.Is(err, objstore.ErrNotFound) {
		t.Fatal(err)
	}
	if _, err := b.Put(t.Context(), key, bytes.NewReader(f(old)), objstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (b *bucket) remove(t *testing.T, key string) {
	t.Helper()
	if err := b.Delete(t.Context(), []string{key}); err != nil {
		t.Fatal(err)
	}
}

// theServers is a bucket as the server left it.
func theServers(t *testing.T) (*bucket, *pbsbucket.Repository, written) {
	t.Helper()
	var want written
	text, err := os.ReadFile("testdata/pbs-4.2.1.json")
	if err == nil {
		err = json.Unmarshal(text, &want)
	}
	if err != nil {
		t.Fatal(err)
	}
	b := &bucket{Store: mem.New(time.Now, false)}
	unpack(t, b)
	r, err := pbsbucket.Open(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return b, r, want
}

func unpack(t *testing.T, b *bucket) {
	t.Helper()
	f, err := os.Open("testdata/pbs-4.2.1.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	zr, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.FileInfo().IsDir() {
			continue
		}
		body, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		_, key, _ := strings.Cut(h.Name, "/") // the name of the datastore is the prefix of the address
		b.change(t, key, func([]byte) []byte { return body })
	}
}

func (w written) key(t *testing.T) *chunkcrypt.Key {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(w.Key)
	if err != nil {
		t.Fatal(err)
	}
	k, err := chunkcrypt.New([32]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func parse(t *testing.T, path string) names.Snapshot {
	t.Helper()
	n, err := names.ParseSnapshot(path)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
