// Package contract holds a repository to what internal/repo promises, whatever it
// lies in: [Run] is the same for all.
package contract

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Repository is one with all that some have.
type Repository interface {
	repo.Repository
	repo.Mender
	repo.Refiller
	repo.Mover
	Owner(ctx context.Context, ns names.Namespace, g names.Group) (names.AuthID, error)
	Protected(ctx context.Context, n names.Snapshot) (bool, error)
	StoredFiles(ctx context.Context, n names.Snapshot) ([]repo.StoredFile, error)
}

// Fixture is an empty repository.
type Fixture struct {
	Repository
	Start  time.Time                                 // of its clock
	Reopen func(t *testing.T) Repository             // what another process sees
	Spoil  func(t *testing.T, first []byte)          // damages the chunk that begins with these encoded bytes
	Sweep  func(t *testing.T) (repo.GCStatus, error) // collects, and removes what nobody needs
}

// Run tests a repository; open makes an empty one.
func Run(t *testing.T, open func(t *testing.T) Fixture) {
	for _, p := range promises {
		t.Run(p.name, func(t *testing.T) {
			p.test(newSuite(t, open(t)))
		})
	}
}

type promise struct {
	name string
	test func(s *suite)
}

var promises = append(append(append([]promise{}, sessions...), changes...), returns...)

// suite is one test.
type suite struct {
	*testing.T
	Fixture
	*Client
	ctx context.Context
	rng *rand.Rand
	now int64
}

func newSuite(t *testing.T, f Fixture) *suite {
	return &suite{T: t, Fixture: f, Client: NewClient(t), ctx: t.Context(), rng: rand.New(rand.NewPCG(3, 7)), now: f.Start.Unix()}
}

// must ends the test.
func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// is reports an error that is not of a kind.
func (s *suite) is(what string, err, kind error) {
	s.Helper()
	if !errors.Is(err, kind) {
		s.Errorf("%s: %v, want %v", what, err, kind)
	}
}

// next names a snapshot of a guest, an hour behind the last one.
func (s *suite) next(id string) names.Snapshot {
	s.now += 3600
	return names.Snapshot{Group: names.Group{Type: names.VM, ID: id}, Time: s.now}
}

// backup makes one, or ends the test.
func (s *suite) backup(n names.Snapshot, c Content) {
	s.Helper()
	s.must(s.Backup(s.ctx, s, n, c))
}

// restores reports what does not restore to its content.
func (s *suite) restores(n names.Snapshot, want Content) {
	s.Helper()
	got, err := s.Restore(s.ctx, s, n)
	if err != nil {
		s.Errorf("%s: %v", n, err)
	} else if !got.Equal(want) {
		s.Errorf("%s restores to something else", n)
	}
}
