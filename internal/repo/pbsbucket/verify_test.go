package pbsbucket_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

func TestVerifyFindsWhatTheServerWroteSound(t *testing.T) {
	_, r, want := theServers(t)
	for _, tc := range []struct {
		name string
		opt  repo.VerifyOptions
		want int
	}{
		{"all, with the key", repo.VerifyOptions{Recursive: true, Key: want.key(t)}, 7},
		{"a namespace, without a key", repo.VerifyOptions{Namespace: "a"}, 2},
		{"what the server verified", repo.VerifyOptions{Recursive: true, IgnoreVerified: true}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rep, err := r.Verify(t.Context(), tc.opt)
			if err != nil {
				t.Fatal(err)
			}
			checked := 0
			for _, v := range rep.Snapshots {
				if len(v.Errors) > 0 {
					t.Errorf("%s: %v", v.Snapshot, v.Errors)
				}
				if v.Skipped == "" {
					checked++
				}
			}
			if checked != tc.want {
				t.Errorf("%d snapshots were looked at, want %d", checked, tc.want)
			}
		})
	}
}

func TestVerifyTellsDamageAndChangesNothing(t *testing.T) {
	const vm, snapshot = ".cnt/vm/100/2026-11-30T01:21:00Z/", "vm/100/2026-11-30T01:21:00Z"
	flip := func(raw []byte) []byte { raw[len(raw)-1] ^= 1; return raw }
	for _, tc := range []struct {
		name    string
		spoil   func(t *testing.T, b *bucket)
		missing bool
	}{
		{"a chunk", func(t *testing.T, b *bucket) { b.change(t, b.chunk(t), flip) }, false},
		{"a chunk that is cut", func(t *testing.T, b *bucket) { b.change(t, b.chunk(t), func([]byte) []byte { return nil }) }, false},
		{"a chunk that is gone", func(t *testing.T, b *bucket) { b.remove(t, b.chunk(t)) }, true},
		{"an index", func(t *testing.T, b *bucket) { b.change(t, vm+"disk.img.fidx", flip) }, false},
		{"an index that is gone", func(t *testing.T, b *bucket) { b.remove(t, vm+"disk.img.fidx") }, false},
		{"a blob", func(t *testing.T, b *bucket) { b.change(t, vm+"qemu-server.conf.blob", flip) }, false},
		{"a blob that is gone", func(t *testing.T, b *bucket) { b.remove(t, vm+"qemu-server.conf.blob") }, false},
		{"the manifest", func(t *testing.T, b *bucket) { b.change(t, vm+"index.json.blob", flip) }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, r, _ := theServers(t)
			tc.spoil(t, b)
			before := b.state(t)
			rep, err := r.Verify(t.Context(), repo.VerifyOptions{})
			if err != nil || len(rep.Snapshots) != 3 {
				t.Fatalf("%+v, %v", rep, err)
			}
			for _, v := range rep.Snapshots {
				if (v.Snapshot.String() == snapshot) != (len(v.Errors) > 0) {
					t.Errorf("%s: %v", v.Snapshot, v.Errors)
				}
				for _, err := range v.Errors {
					if _, corrupt := errors.AsType[*repo.CorruptError](err); corrupt == tc.missing || errors.Is(err, repo.ErrChunkMissing) != tc.missing {
						t.Errorf("%s: %v", v.Snapshot, err)
					}
				}
			}
			if after := b.state(t); after != before {
				t.Error("the bucket was changed")
			}
		})
	}
}

// chunk is the key of a chunk that only the second snapshot of vm/100 needs.
func (b *bucket) chunk(t *testing.T) string {
	t.Helper()
	keys := map[string]int{}
	for _, time := range []string{"2026-11-30T01:20:56Z", "2026-11-30T01:21:00Z"} {
		raw, _, err := objstore.ReadAll(t.Context(), b.Store, ".cnt/vm/100/"+time+"/disk.img.fidx", 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for d := raw[4096:]; len(d) > 0; d = d[32:] {
			keys[names.ChunkPath([32]byte(d[:32]))]++
			if time == "2026-11-30T01:21:00Z" && keys[names.ChunkPath([32]byte(d[:32]))] == 1 {
				return names.ChunkPath([32]byte(d[:32]))
			}
		}
	}
	t.Fatal("the snapshots have all chunks in common")
	return ""
}

// state is all keys and tags.
func (b *bucket) state(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for o, err := range objstore.All(t.Context(), b.Store, "", "") {
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString(o.Key + " " + o.Tag + "\n")
	}
	return all.String()
}
