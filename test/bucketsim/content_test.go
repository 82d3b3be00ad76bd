package bucketsim

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

const (
	chunkSize = 512 // seven fit into the smallest pack
	imageName = names.Archive("disk.img.fidx")
	confName  = names.Archive("vm.conf.blob")
)

// content is a disk: for each slot the number of its chunk.
type content []int

// chunk is one of the chunks that disks are made of.
type chunk struct {
	plain, raw []byte
	digest     digest.Digest
}

// universe has all chunks, for all schedules.
type universe struct {
	mu  sync.Mutex
	enc *blob.Encoder
	all []chunk
}

func newUniverse(t testing.TB) *universe {
	t.Helper()
	enc, err := blob.NewEncoder(nil, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(enc.Close)
	return &universe{enc: enc}
}

// get is chunk number i.
func (u *universe) get(i int) chunk {
	u.mu.Lock()
	defer u.mu.Unlock()
	for len(u.all) <= i {
		plain := make([]byte, chunkSize)
		rng := rand.NewPCG(uint64(len(u.all)), 99)
		for at := 0; at < chunkSize; at += 8 {
			binary.LittleEndian.PutUint64(plain[at:], rng.Uint64())
		}
		raw, err := u.enc.Append(nil, plain)
		if err != nil {
			panic(err) // an encoder without key or compression copies
		}
		u.all = append(u.all, chunk{plain, raw, digest.Of(plain)})
	}
	return u.all[i]
}

// conf is what the blob beside a disk says.
func (c content) conf() string { return fmt.Sprintf("disk of %d slots: %v", len(c), []int(c)) }

// write stores a disk in a session, as a client does: what the previous snapshot has is
// not sent, and other chunks only if the store lacks them. rest is called between chunks.
func (u *universe) write(ctx context.Context, ses repo.Session, c content, rest func()) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, ses.Abort())
		}
	}()
	known, err := knownDigests(ses)
	if err != nil {
		return err
	}
	for _, n := range c {
		if x := u.get(n); !known[x.digest] {
			if err := send(ctx, ses, x); err != nil {
				return err
			}
		}
		rest()
	}
	return u.finish(ctx, ses, c)
}

// refill brings a disk back.
func (u *universe) refill(ctx context.Context, f repo.Refill, n names.Snapshot, c content) (err error) {
	for _, i := range c {
		x := u.get(i)
		has, err := f.Has(ctx, x.digest)
		if err == nil && !has {
			_, err = f.Put(ctx, x.digest, x.raw)
		}
		if err != nil {
			return err
		}
	}
	ses, err := f.Begin(ctx, repo.Begin{Snapshot: n})
	if err != nil {
		return err
	}
	if err := u.finish(ctx, ses, c); err != nil {
		return errors.Join(err, ses.Abort())
	}
	return nil
}

// finish stores what names the chunks of a disk.
func (u *universe) finish(ctx context.Context, ses repo.Session, c content) error {
	w, err := ses.CreateFixed(imageName, int64(len(c))*chunkSize, chunkSize)
	if err != nil {
		return err
	}
	for i, n := range c {
		if err := w.Set(i, u.get(n).digest); err != nil {
			return err // without Close: the end of the session has to do
		}
	}
	sum, err := w.Close()
	if err != nil {
		return err
	}
	m := manifest.New(ses.Snapshot())
	if err := m.Add(manifest.File{Filename: imageName.String(), CryptMode: manifest.ModeNone, Size: uint64(len(c)) * chunkSize, Csum: sum}); err != nil {
		return err
	}
	raw, err := u.blob(c)
	if err != nil {
		return err
	}
	if err := ses.PutBlob(ctx, confName, raw); err != nil {
		return err
	}
	if err := m.Add(manifest.File{Filename: confName.String(), CryptMode: manifest.ModeNone, Size: uint64(len(raw)), Csum: digest.Of(raw)}); err != nil {
		return err
	}
	return ses.Finish(ctx, m)
}

func (u *universe) blob(c content) ([]byte, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.enc.Append(nil, []byte(c.conf()))
}

func send(ctx context.Context, ses repo.Session, x chunk) error {
	has, err := ses.Has(ctx, x.digest)
	if err != nil || has {
		return err
	}
	_, err = ses.Put(ctx, x.digest, len(x.plain), x.raw)
	return err
}

func knownDigests(ses repo.Session) (map[digest.Digest]bool, error) {
	known := map[digest.Digest]bool{}
	prev := ses.Previous()
	if prev == nil {
		return known, nil
	}
	x, closer, err := prev.OpenFixed(imageName)
	if err != nil {
		return nil, err
	}
	list := make([]digest.Digest, x.Count())
	if err := errors.Join(x.Digests(0, list), closer.Close()); err != nil {
		return nil, err
	}
	for _, d := range list {
		known[d] = true
	}
	return known, nil
}

// errWrong is data that was returned as good and is not what was backed up.
var errWrong = errors.New("what was read is not what was backed up")

// opener is what reading asks of a repository.
type opener interface {
	Open(ctx context.Context, n names.Snapshot) (repo.Snapshot, error)
}

// read reads a snapshot, and compares it.
func (u *universe) read(ctx context.Context, r opener, n names.Snapshot, want content) (err error) {
	s, err := r.Open(ctx, n)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := u.readConf(s, want); err != nil {
		return err
	}
	x, closer, err := s.OpenFixed(imageName)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	if x.Count() != len(want) {
		return fmt.Errorf("%w: %d slots, want %d", errWrong, x.Count(), len(want))
	}
	var buf []byte
	for i, number := range want {
		c := u.get(number)
		d, err := x.Digest(i)
		switch {
		case err != nil:
			return err
		case d != c.digest:
			return fmt.Errorf("%w: slot %d is chunk %s, want %s", errWrong, i, d, c.digest)
		}
		if buf, err = s.ReadChunk(ctx, d, buf); err != nil {
			return err
		}
		if !slices.Equal(buf, c.raw) {
			return fmt.Errorf("%w: slot %d", errWrong, i)
		}
	}
	return nil
}

func (u *universe) readConf(s repo.Snapshot, want content) error {
	raw, err := s.Blob(confName)
	if err != nil {
		return err
	}
	if wanted, err := u.blob(want); err != nil || !slices.Equal(raw, wanted) {
		return fmt.Errorf("%w: the blob", errors.Join(errWrong, err))
	}
	return nil
}
