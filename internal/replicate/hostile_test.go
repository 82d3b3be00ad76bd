package replicate_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path"
	"sync"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/replicate"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// liar is a source that changes what it hands out.
type liar struct {
	repo.Repository
	chunk    func(d digest.Digest, raw []byte, err error) ([]byte, error)
	manifest func(*manifest.Manifest) *manifest.Manifest
	blob     func(names.Archive, []byte) []byte
	other    names.Snapshot // whose indexes are handed out; the zero value: the right ones
	only     names.Kind     // of which kind; 0: of both
}

type lie struct {
	repo.Snapshot
	l     liar
	index repo.Snapshot
}

func (l liar) Open(ctx context.Context, n names.Snapshot) (repo.Snapshot, error) {
	s, err := l.Repository.Open(ctx, n)
	if err != nil || n.Time != day(2).Time {
		return s, err
	}
	one := lie{s, l, s}
	if l.other.Time != 0 {
		one.index, err = l.Repository.Open(ctx, l.other)
	}
	return one, err
}

func (s lie) Close() error {
	if s.index != s.Snapshot {
		return errors.Join(s.Snapshot.Close(), s.index.Close())
	}
	return s.Snapshot.Close()
}

func (s lie) Manifest() *manifest.Manifest {
	if s.l.manifest == nil {
		return s.Snapshot.Manifest()
	}
	return s.l.manifest(s.Snapshot.Manifest())
}

func (s lie) OpenFixed(n names.Archive) (*fidx.Index, io.Closer, error) {
	return s.of(n).OpenFixed(n)
}

func (s lie) OpenDynamic(n names.Archive) (*didx.Index, io.Closer, error) {
	return s.of(n).OpenDynamic(n)
}

func (s lie) of(n names.Archive) repo.Snapshot {
	if s.l.only != 0 && s.l.only != n.Kind() {
		return s.Snapshot
	}
	return s.index
}

func (s lie) Blob(n names.Archive) ([]byte, error) {
	raw, err := s.Snapshot.Blob(n)
	if err == nil && s.l.blob != nil {
		raw = s.l.blob(n, raw)
	}
	return raw, err
}

func (s lie) ReadChunk(ctx context.Context, d digest.Digest, buf []byte) ([]byte, error) {
	raw, err := s.Snapshot.ReadChunk(ctx, d, buf)
	if err == nil && s.l.chunk != nil {
		return s.l.chunk(d, raw, err)
	}
	return raw, err
}

// edited is a manifest with one change.
func edited(f func(m *manifest.Manifest)) func(*manifest.Manifest) *manifest.Manifest {
	return func(old *manifest.Manifest) *manifest.Manifest {
		m := *old
		m.Files = append([]manifest.File(nil), old.Files...)
		f(&m)
		return &m
	}
}

// Whatever the source gives out, the target holds snapshots that verify or none; a
// snapshot that the source has wrong does not keep the newer ones away.
func TestAHostileSourceBringsNothingWrong(t *testing.T) {
	a := newPlace(t)
	for n := 1; n <= 3; n++ {
		backup(t, a, day(n), content(4, uint64(n)), nil)
	}
	secret, err := chunkcrypt.New([32]byte{9})
	if err != nil {
		t.Fatal(err)
	}
	vault := newPlace(t)
	backup(t, vault, day(2), content(4, 2), secret)
	foreign, err := vault.Open(t.Context(), day(2))
	if err != nil {
		t.Fatal(err)
	}
	x, closer, err := foreign.OpenFixed(image)
	if err != nil {
		t.Fatal(err)
	}
	name, err := x.Digest(0)
	if err != nil {
		t.Fatal(err)
	}
	ciphertext, err := foreign.ReadChunk(t.Context(), name, nil)
	if err = errors.Join(err, closer.Close(), foreign.Close()); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex // several workers ask for chunks
	var other []byte  // the first one that was asked for
	for _, tc := range []struct {
		name string
		l    liar
	}{
		{"another chunk", liar{chunk: func(_ digest.Digest, raw []byte, err error) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			if other == nil {
				other = bytes.Clone(raw)
			}
			return bytes.Clone(other), err
		}}},
		{"a chunk cut off", liar{chunk: func(_ digest.Digest, raw []byte, err error) ([]byte, error) { return raw[:len(raw)/2], err }}},
		{"an empty chunk", liar{chunk: func(_ digest.Digest, raw []byte, err error) ([]byte, error) { return raw[:0], err }}},
		{"a flipped bit", liar{chunk: func(_ digest.Digest, raw []byte, err error) ([]byte, error) { raw[20] ^= 1; return raw, err }}},
		{"ciphertext", liar{chunk: func(digest.Digest, []byte, error) ([]byte, error) { return ciphertext, nil }}},
		{"a missing chunk", liar{chunk: func(digest.Digest, []byte, error) ([]byte, error) { return nil, repo.ErrChunkMissing }}},
		{"indexes of another snapshot", liar{other: day(1)}},
		{"the fixed index of another snapshot", liar{other: day(1), only: names.Fidx}},
		{"the dynamic index of another snapshot", liar{other: day(1), only: names.Didx}},
		{"plain chunks in an archive that is said to be encrypted", liar{manifest: edited(func(m *manifest.Manifest) {
			m.Files[0].CryptMode = manifest.ModeEncrypt
		})}},
		{"another size", liar{manifest: edited(func(m *manifest.Manifest) { m.Files[0].Size++ })}},
		{"another checksum", liar{manifest: edited(func(m *manifest.Manifest) { m.Files[1].Csum[3] ^= 1 })}},
		{"an archive listed twice", liar{manifest: edited(func(m *manifest.Manifest) { m.Files = append(m.Files, m.Files[0]) })}},
		{"a path as a name", liar{manifest: edited(func(m *manifest.Manifest) { m.Files[2].Filename = "../../../owner.blob" })}},
		{"the manifest as an archive", liar{manifest: edited(func(m *manifest.Manifest) { m.Files[2].Filename = "index.json.blob" })}},
		{"the manifest of another snapshot", liar{manifest: edited(func(m *manifest.Manifest) { m.BackupTime++ })}},
		{"another blob", liar{blob: func(_ names.Archive, raw []byte) []byte { return append(raw, 0) }}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newPlace(t)
			tc.l.Repository = a
			other = nil
			rep, err := replicate.Run(t.Context(), tc.l, b, replicate.Options{Workers: 2, Warnf: t.Logf})
			if err != nil || len(rep.Failures) != 1 {
				t.Fatalf("%v, %+v", err, rep)
			}
			all := listing(t, a, "")
			same(t, []string{all[0], all[2]}, listing(t, b, ""))
			verified(t, b)
			honest(t, b)
		})
	}
}

// honest reports a chunk that is not what its name says: a snapshot that comes later
// would take it for good.
func honest(t *testing.T, p place) {
	t.Helper()
	dec, err := blob.NewDecoder(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	for _, name := range p.disk.Files() {
		d, err := digest.Parse(path.Base(name))
		if err != nil {
			continue
		}
		raw, err := p.disk.Content(name)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := dec.Append(nil, raw, blob.MaxChunk)
		if err != nil || digest.Of(plain) != d {
			t.Errorf("chunk %s holds something else, %v", d, err)
		}
	}
}

// A log that nothing vouches for keeps no snapshot away.
func TestADamagedLogIsLeftBehind(t *testing.T) {
	a, b := newPlace(t), newPlace(t)
	backup(t, a, day(2), content(2, 1), nil)
	putLog(t, a, day(2), "fine")
	l := liar{Repository: a, blob: func(n names.Archive, raw []byte) []byte {
		if n == names.ClientLog {
			return raw[:5]
		}
		return raw
	}}
	run(t, l, b, replicate.Options{})
	if got := logText(t, b, day(2)); got != "no log" {
		t.Error(got)
	}
	verified(t, b)
}

// A connection that is lost is no damage: the group ends there, and nothing of the
// target is taken for vanished.
func TestWhatCouldNotBeFoundOutRemovesNothing(t *testing.T) {
	a, b := newPlace(t), newPlace(t)
	for n := range 2 {
		backup(t, a, day(n), content(4, uint64(n)), nil)
	}
	run(t, a, b, replicate.Options{})
	if err := a.Forget(t.Context(), day(0)); err != nil {
		t.Fatal(err)
	}
	backup(t, a, day(2), content(4, 2), nil)
	before := listing(t, b, "")
	lost := errors.New("connection lost")
	l := liar{Repository: a, chunk: func(digest.Digest, []byte, error) ([]byte, error) { return nil, lost }}
	rep, err := replicate.Run(t.Context(), l, b, replicate.Options{RemoveVanished: true})
	if err != nil || len(rep.Failures) != 1 || !errors.Is(rep.Err(), lost) {
		t.Errorf("%v, %+v", err, rep)
	}
	same(t, before, listing(t, b, ""))
	// Damage is none either: what is left of the source may be less than the target has.
	l.chunk = func(digest.Digest, []byte, error) ([]byte, error) { return nil, repo.ErrChunkMissing }
	rep, err = replicate.Run(t.Context(), l, b, replicate.Options{RemoveVanished: true})
	if err != nil || len(rep.Failures) != 1 {
		t.Errorf("%v, %+v", err, rep)
	}
	same(t, before, listing(t, b, ""))
}
