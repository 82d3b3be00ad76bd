// Package confdir is the directory with the configuration of a server. It has the
// files of /etc/proxmox-backup, and that directory can be used as it is.
//
// # Files
//
//	file                    lock                   mode  content
//	user.cfg                .user.lck              0640  users and API tokens (access.Users)
//	acl.cfg                 .acl.lck               0640  who has which role where (access.ACL)
//	acl-holdfast.cfg        .acl.lck               0640  the same, with roles that PBS does not have
//	shadow.json             shadow.json.lock       0600  user without realm -> hash, of realm pbs
//	token.shadow            token.shadow.lock      0640  token id -> hash of its secret
//	tfa.json                tfa.json.lock          0600  second factors
//	authkey.key, .pub       -                      0600  the key that signs tickets; its public half, 0640
//	csrf.key                -                      0640  the key of CSRF tokens
//	domains.cfg             .domains.lck           0640  realms other than pam and pbs
//	proxy.pem, proxy.key    -                      0640  certificate and its key
//	datastore.cfg           .datastore.lck         0640  datastores
//	remote.cfg              .remote.lck            0640  other servers, with passwords
//	s3.cfg                  .s3.lck                0640  object stores, with their keys
//	sync.cfg                .sync.lck              0640  jobs
//	verification.cfg        .verification.lck      0640  jobs
//	prune.cfg               .prune.lck             0640  jobs
//	notifications.cfg       .notifications.lck     0640  where messages go
//	notifications-priv.cfg  .notifications.lck     0600  passwords for that
//	traffic-control.cfg     .traffic-control.lck   0640  rate limits
//	metricserver.cfg        .metricserver.lck      0640  where figures go
//	tape.cfg                .tape.lck              0640  drives and changers
//	tape-job.cfg            .tape-job.lck          0640  jobs
//	media-pool.cfg          .media-pool.lck        0640  tape pools
//	tape-encryption-keys.json
//	                        .tape-encryption-keys.lck
//	                                               0600  keys of tapes
//	tape-encryption-key-config.json
//	                        .tape-encryption-keys.lck
//	                                               0640  the same under passwords
//	node.cfg                .node.lck              0640  settings of the machine
//
// The modes are those of new files, whose group is that of the directory where the
// mode lets it in. A file that is there keeps owner, group and mode. A file that is
// missing is empty.
//
// # Changes
//
// A file is replaced as a whole, and after a crash is the old or the new one:
// package keystore. Who changes one holds its lock from before reading it until it
// is replaced: an exclusive flock(2) on the lock file, which is made when it is
// missing and stays. The tools of PBS take the same locks. Readers need none.
//
// Who shows a file to somebody who will send it back changed gives a [Digest] with
// it, and takes the change only if it still is the file's.
//
// # Errors
//
// [ErrBusy] is wrapped when a lock was not free in time, [ErrChanged] when a
// digest is of another content. Errors of the system name the file. A content of
// more than 16 MiB is keystore.ErrTooLarge.
package confdir

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
	"github.com/holdfast-backup/holdfast/internal/keystore"
)

var (
	// ErrBusy is wrapped when somebody else changes a file, for too long.
	ErrBusy = errors.New("somebody else is changing it")
	// ErrChanged is wrapped when a file is not the one any more that a change is
	// meant for.
	ErrChanged = errors.New("it was changed by somebody else in the meantime")
)

// File is a file of the directory.
type File struct {
	Name    string
	Lock    string // name of its lock file; empty: it is made once and not changed
	Private bool   // the group of the directory may not read it
}

// The files.
var (
	Users         = File{"user.cfg", ".user.lck", false}
	ACL           = File{"acl.cfg", ".acl.lck", false}
	OwnACL        = File{"acl-holdfast.cfg", ".acl.lck", false}
	Shadow        = File{"shadow.json", "shadow.json.lock", true}
	TokenShadow   = File{"token.shadow", "token.shadow.lock", false}
	TFA           = File{"tfa.json", "tfa.json.lock", true}
	AuthKey       = File{"authkey.key", "", true}
	AuthPub       = File{"authkey.pub", "", false}
	CSRFKey       = File{"csrf.key", "", false}
	Domains       = File{"domains.cfg", ".domains.lck", false}
	Certificate   = File{"proxy.pem", "", false}
	CertKey       = File{"proxy.key", "", false}
	Datastores    = File{"datastore.cfg", ".datastore.lck", false}
	Remotes       = File{"remote.cfg", ".remote.lck", false}
	S3            = File{"s3.cfg", ".s3.lck", false}
	SyncJobs      = File{"sync.cfg", ".sync.lck", false}
	VerifyJobs    = File{"verification.cfg", ".verification.lck", false}
	PruneJobs     = File{"prune.cfg", ".prune.lck", false}
	Notifications = File{"notifications.cfg", ".notifications.lck", false}
	NotifySecrets = File{"notifications-priv.cfg", ".notifications.lck", true}
	Traffic       = File{"traffic-control.cfg", ".traffic-control.lck", false}
	Metrics       = File{"metricserver.cfg", ".metricserver.lck", false}
	Tape          = File{"tape.cfg", ".tape.lck", false}
	TapeJobs      = File{"tape-job.cfg", ".tape-job.lck", false}
	MediaPools    = File{"media-pool.cfg", ".media-pool.lck", false}
	TapeKeys      = File{"tape-encryption-keys.json", ".tape-encryption-keys.lck", true}
	TapeKeyFiles  = File{"tape-encryption-key-config.json", ".tape-encryption-keys.lck", false}
	Node          = File{"node.cfg", ".node.lck", false}
)

const (
	maxSize  = 16 << 20         // of a file, in bytes
	lockTime = 10 * time.Second // PBS waits as long
)

// Dir is a directory. It has no state and is safe for concurrent use.
type Dir struct{ path string }

// New returns the directory with a path. It need not be there yet: see [Dir.Make].
func New(path string) Dir { return Dir{path} }

// Path is where the directory is.
func (d Dir) Path() string { return d.path }

// Make makes the directory, for its owner alone, if it is not there.
func (d Dir) Make() error { return keystore.MakeDir(d.path) }

// Digest names a content: SHA-256, as the server's calls show it.
type Digest [sha256.Size]byte

// DigestOf returns the digest of a content.
func DigestOf(content []byte) Digest { return sha256.Sum256(content) }

// String returns 64 hexadecimal digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Check returns an error wrapping ErrChanged if text, as a caller sent it, is the
// digest of another content. An empty text fits every content.
func (d Digest) Check(text string) error {
	if text == "" || text == d.String() {
		return nil
	}
	return fmt.Errorf("%w: load it again, and then change it", ErrChanged)
}

// Load returns the content of a file, nothing if it is missing.
func (d Dir) Load(f File) ([]byte, error) {
	b, err := keystore.Read(filepath.Join(d.path, f.Name), maxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// Stamp says which file has a name; it is another one after every change. The zero
// Stamp is of a file that is missing.
type Stamp struct{ info os.FileInfo }

// Stamp returns the present one of a file.
func (d Dir) Stamp(f File) (Stamp, error) {
	info, err := os.Stat(filepath.Join(d.path, f.Name))
	if errors.Is(err, fs.ErrNotExist) {
		return Stamp{}, nil
	}
	return Stamp{info}, err
}

// Same reports whether two stamps are of the same content.
func (s Stamp) Same(o Stamp) bool {
	if s.info == nil || o.info == nil {
		return s.info == o.info
	}
	return os.SameFile(s.info, o.info) && s.info.Size() == o.info.Size() && s.info.ModTime().Equal(o.info.ModTime())
}

// Change replaces a file by what edit makes of it, under its lock. If edit fails or
// returns what it got, the file stays as it is.
func (d Dir) Change(ctx context.Context, f File, edit func(old []byte) ([]byte, error)) error {
	return d.ChangeAll(ctx, []File{f}, func(old [][]byte) ([][]byte, error) {
		b, err := edit(old[0])
		return [][]byte{b}, err
	})
}

// ChangeSections is the same for a file of sections. digest is that which the caller saw,
// or empty.
func (d Dir) ChangeSections(ctx context.Context, f File, digest string, edit func(*sectionconfig.File) error) error {
	return d.Change(ctx, f, func(old []byte) ([]byte, error) {
		if err := DigestOf(old).Check(digest); err != nil {
			return nil, err
		}
		s, err := sectionconfig.Parse(old)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		if err := edit(s); err != nil {
			return nil, err
		}
		return s.Append(nil)
	})
}

// ChangeAll is the same as Change for several files that have one lock. They are replaced one
// after the other, in their order; a crash may leave the later ones as they were.
func (d Dir) ChangeAll(ctx context.Context, files []File, edit func(old [][]byte) ([][]byte, error)) (err error) {
	unlock, err := d.Lock(ctx, files[0].Lock, lockTime)
	if err != nil {
		return fmt.Errorf("%s: %w", files[0].Name, err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	old := make([][]byte, len(files))
	for i, f := range files {
		if f.Lock == "" || f.Lock != files[0].Lock {
			panic("confdir: " + f.Name + " is not under the lock " + files[0].Lock)
		}
		if old[i], err = d.Load(f); err != nil {
			return err
		}
	}
	content, err := edit(old)
	if err != nil {
		return err
	}
	for i, f := range files {
		if bytes.Equal(content[i], old[i]) {
			continue
		}
		if err := d.put(f, content[i]); err != nil {
			return err
		}
	}
	return nil
}

// Create makes a file that is made once. It reports false if the file is there.
func (d Dir) Create(f File, content []byte) (made bool, err error) {
	save := keystore.SaveShared
	if f.Private {
		save = keystore.Save
	}
	err = save(filepath.Join(d.path, f.Name), content, rand.Reader)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}

// Replace gives a file that has no lock another content.
func (d Dir) Replace(f File, content []byte) error { return d.put(f, content) }

func (d Dir) put(f File, content []byte) error {
	return keystore.Put(filepath.Join(d.path, f.Name), content, !f.Private, maxSize, rand.Reader)
}
