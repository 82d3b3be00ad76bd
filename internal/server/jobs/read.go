package jobs

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"time"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/address"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
	"github.com/holdfast-backup/holdfast/internal/property"
	"github.com/holdfast-backup/holdfast/internal/replicate"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/secret"
	"github.com/holdfast-backup/holdfast/internal/throttle"
)

// The values of a section have been checked: what cannot be read is not there.

func (j Job) text(key string) string {
	s, _ := j.section.Get(key)
	return s
}

func (j Job) number(key string, without int) int {
	n, err := j.section.Int(key, int64(without))
	if err != nil {
		return without
	}
	return int(n)
}

func (j Job) yes(key string, without bool) bool {
	on, err := j.section.Bool(key, without)
	return err == nil && on
}

// Namespace is the one that it works on.
func (j Job) Namespace() names.Namespace { return names.Namespace(j.text("ns")) }

// Depth is how many levels below that, replicate.AllDepths for all.
func (j Job) Depth() int { return j.number("max-depth", replicate.AllDepths) }

// Keep is what a pruning keeps.
func (j Job) Keep() retention.Options {
	return retention.Options{
		Last: j.number("keep-last", 0), Hourly: j.number("keep-hourly", 0), Daily: j.number("keep-daily", 0),
		Weekly: j.number("keep-weekly", 0), Monthly: j.number("keep-monthly", 0), Yearly: j.number("keep-yearly", 0),
	}
}

// IgnoreVerified says that a verification leaves out what was verified before,
// unless that is longer ago than outdated, if it is not 0.
func (j Job) IgnoreVerified() (ignore bool, outdated time.Duration) {
	return j.yes("ignore-verified", true), time.Duration(j.number("outdated-after", 0)) * 24 * time.Hour
}

// Threads is how many chunks are verified at a time; 0: as many as there are CPUs.
func (j Job) Threads() int { return j.number("verify-threads", 0) }

// Pulls reports whether a synchronisation brings snapshots here.
func (j Job) Pulls() bool { return j.text("sync-direction") != "push" }

// Owner is in whose name a synchronisation runs.
func (j Job) Owner() string {
	if owner := j.text("owner"); owner != "" {
		return owner
	}
	return "root@pam"
}

// RemovesVanished reports whether a synchronisation removes at the target what the
// source does not have.
func (j Job) RemovesVanished() bool { return j.yes("remove-vanished", false) }

// End is the other end of a synchronisation.
type End struct {
	Remote string // "": this server
	Store  string
	NS     names.Namespace
}

// Other returns the end of a synchronisation that is not j.Store.
func (j Job) Other() End {
	return End{j.text("remote"), j.text("remote-store"), names.Namespace(j.text("remote-ns"))}
}

// Pool is the pool of media that a backup to tape writes to.
func (j Job) Pool() string { return j.text("pool") }

// Drive is the drive that a backup to tape uses.
func (j Job) Drive() string { return j.text("drive") }

// MailTo is who gets mail about a backup to tape; ok is false if people hear of it
// by the notification system.
func (j Job) MailTo() (user string, ok bool) {
	user = j.text("notify-user")
	if user == "" {
		user = "root@pam"
	}
	return user, j.text("notification-mode") != "notification-system"
}

// SyncJob is what a synchronisation does.
type SyncJob struct {
	Pull    bool
	Other   End
	Owner   names.AuthID // in whose name it runs
	Options replicate.Options
}

// Sync says what a synchronisation does.
func (j Job) Sync() (SyncJob, error) {
	s := SyncJob{Pull: j.Pulls(), Other: j.Other()}
	owner, err := names.ParseAuthID(j.Owner())
	if err != nil {
		return s, err
	}
	s.Owner = owner
	filters, err := replicate.ParseFilters(j.section.All("group-filter"))
	if err != nil {
		return s, err
	}
	s.Options = replicate.Options{
		From: s.Other.NS, To: j.Namespace(), Depth: j.Depth(), Filters: filters, Owner: owner.String(),
		RemoveVanished: j.RemovesVanished(), TransferLast: j.number("transfer-last", 0),
		EncryptedOnly: j.yes("encrypted-only", false), VerifiedOnly: j.yes("verified-only", false),
		ResyncCorrupt: j.yes("resync-corrupt", false) && s.Pull, Groups: j.number("worker-threads", 1),
	}
	rate := "rate-in"
	if !s.Pull {
		s.Options.From, s.Options.To = s.Options.To, s.Options.From
		rate = "rate-out"
	}
	if text := j.text(rate); text != "" {
		n, err := property.ParseRate(text)
		if err != nil {
			return s, err
		}
		s.Options.Rate = throttle.New(n)
	}
	return s, nil
}

// Worker is the worker id of its task.
func (j Job) Worker() string {
	switch j.Kind {
	case Prune:
		if ns := j.Namespace(); !ns.IsRoot() {
			return j.Store + ":" + ns.String()
		}
	case Verify:
		return j.Store + ":" + j.ID
	case Tape:
		return fmt.Sprintf("%s:%s:%s:%s", j.Store, j.Pool(), j.Drive(), j.ID)
	case Sync:
		remote := j.text("remote")
		if remote == "" {
			remote = "-"
		}
		return fmt.Sprintf("%s:%s:%s:%s:%s", remote, j.text("remote-store"), j.Store, j.Namespace(), j.ID)
	}
	return j.Store
}

// Remote is another server.
type Remote struct {
	Name        string
	Host        string
	Port        uint16
	Auth        names.AuthID
	Fingerprint string // "": a known authority has signed the certificate
	Comment     string
	Password    secret.Secret
}

// Remotes lists the servers of remote.cfg, and says which file that is of.
func Remotes(conf confdir.Dir) ([]Remote, confdir.Digest, error) {
	text, err := conf.Load(confdir.Remotes)
	if err != nil {
		return nil, confdir.Digest{}, err
	}
	f, err := sectionconfig.Parse(text)
	if err != nil {
		return nil, confdir.Digest{}, fmt.Errorf("%s: %w", confdir.Remotes.Name, err)
	}
	var all []Remote
	for sec := range f.Of("remote") {
		r, err := remoteOf(sec)
		if err != nil {
			return nil, confdir.Digest{}, fmt.Errorf("%s: remote %q: %w", confdir.Remotes.Name, sec.ID, err)
		}
		all = append(all, r)
	}
	return all, confdir.DigestOf(text), nil
}

// PickRemote returns one of them.
func PickRemote(all []Remote, name string) (Remote, error) {
	for _, r := range all {
		if r.Name == name {
			return r, nil
		}
	}
	return Remote{}, fmt.Errorf("remote %q: %w in %s", name, ErrNotFound, confdir.Remotes.Name)
}

// FindRemote returns the server with a name. Others need not be readable.
func FindRemote(conf confdir.Dir, name string) (Remote, error) {
	f, err := load(conf, confdir.Remotes)
	if err != nil {
		return Remote{}, err
	}
	for sec := range f.Of("remote") {
		if sec.ID == name {
			r, err := remoteOf(sec)
			if err != nil {
				err = fmt.Errorf("%s: remote %q: %w", confdir.Remotes.Name, name, err)
			}
			return r, err
		}
	}
	return Remote{}, fmt.Errorf("remote %q: %w in %s", name, ErrNotFound, confdir.Remotes.Name)
}

func remoteOf(sec *sectionconfig.Section) (Remote, error) {
	r := Remote{Name: sec.ID, Port: address.DefaultPort}
	for _, p := range RemoteProperties() {
		v, ok := sec.Get(p.Key)
		if !ok && p.Needed {
			return r, fmt.Errorf("%s is missing", p.Key)
		}
		if ok {
			if err := p.Check(v); err != nil {
				return r, err
			}
		}
	}
	r.Host, _ = sec.Get("host")
	r.Comment, _ = sec.Get("comment")
	r.Fingerprint, _ = sec.Get("fingerprint")
	text, _ := sec.Get("auth-id")
	var err error
	if r.Auth, err = names.ParseAuthID(text); err != nil {
		return r, err
	}
	if port, ok := sec.Get("port"); ok {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return r, err
		}
		r.Port = uint16(n)
	}
	text, _ = sec.Get("password")
	plain, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return r, fmt.Errorf("its password is not in base64")
	}
	r.Password = secret.New(plain)
	return r, nil
}
