package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/keyfile"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/proto/trust"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket"
	"github.com/holdfast-backup/holdfast/internal/repo/remote"
	"github.com/holdfast-backup/holdfast/internal/secret"
	"github.com/holdfast-backup/holdfast/internal/server/buckets"
	"github.com/holdfast-backup/holdfast/internal/ui"
)

// The exit codes, see the package comment.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitSkipped     = 3
	exitDamaged     = 4
	exitNotFound    = 10
	exitLocked      = 11
	exitRefused     = 12
	exitInterrupted = 130
)

// ErrInterrupted is the cause that main cancels the context with.
var ErrInterrupted = errors.New("interrupted")

var (
	// errSkipped ends a command that did its work but had to leave out something.
	errSkipped = errors.New("finished, but something was skipped")
	// errDamaged ends a command that found damage.
	errDamaged = errors.New("damage found")
	// errRefused ends a command whose key or password is the wrong one.
	errRefused = errors.New("refused")
)

// usageError is the user's mistake.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usage(err error) error { return usageError{err} }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// hinted is an error with something to do about it.
type hinted struct {
	err  error
	hint string
}

func (e hinted) Error() string { return e.err.Error() }
func (e hinted) Unwrap() error { return e.err }

func hint(err error, format string, args ...any) error {
	return hinted{err, fmt.Sprintf(format, args...)}
}

// marked gives a sentence of its own one of the kinds above.
type marked struct {
	text string
	kind error
}

func (e marked) Error() string { return e.text }
func (e marked) Unwrap() error { return e.kind }

func mark(kind error, format string, args ...any) error {
	return marked{fmt.Sprintf(format, args...), kind}
}

// exitCode is the only place that makes exit codes.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if e, ok := errors.AsType[endedError](err); ok {
		return int(e)
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[*repo.CorruptError](err); ok {
		return exitDamaged // before the key: CorruptError may wrap a failed authentication
	}
	if _, ok := errors.AsType[*secret.MissingError](err); ok {
		return exitRefused
	}
	switch {
	case errors.Is(err, ErrInterrupted), errors.Is(err, context.Canceled):
		return exitInterrupted
	case isAny(err, errDamaged, repo.ErrChunkMissing, manifest.ErrSignature):
		return exitDamaged
	case isUntrusted(err), isAny(err, errRefused, remote.ErrLogin, keyfile.ErrPassword, keyfile.ErrNeedPassword, manifest.ErrWrongKey, blob.ErrNoKey, chunkcrypt.ErrAuth, repo.ErrOwner, objstore.ErrDenied, objstore.ErrUntrusted):
		return exitRefused
	case isAny(err, blob.ErrFormat, fidx.ErrFormat, manifest.ErrFormat, pxar.ErrFormat):
		return exitDamaged
	case isAny(err, repo.ErrNotFound, access.ErrUnknown, objstore.ErrBucket):
		return exitNotFound
	case errors.Is(err, repo.ErrLocked):
		return exitLocked
	case errors.Is(err, errSkipped):
		return exitSkipped
	}
	return exitFailed
}

func isUntrusted(err error) bool {
	_, ok := errors.AsType[*trust.UntrustedError](err)
	return ok
}

// serverHint is what to do about a server that does not let us in, or that may
// be anybody.
func serverHint(err error) string {
	u, untrusted := errors.AsType[*trust.UntrustedError](err)
	switch {
	case untrusted && u.Expected.IsZero():
		return "if it is the fingerprint that the server's administrator sees, set PBS_FINGERPRINT to it, or run a command on a terminal and confirm it"
	case untrusted:
		return "if the server got a new certificate, change PBS_FINGERPRINT, or the line in ~/.config/holdfast/fingerprints or ~/.config/proxmox-backup/fingerprints"
	case errors.Is(err, remote.ErrLogin):
		return "check user and PBS_PASSWORD; an API token is written user@realm!name@host:datastore, and its secret is the password"
	}
	return ""
}

func isAny(err error, kinds ...error) bool {
	for _, k := range kinds {
		if errors.Is(err, k) {
			return true
		}
	}
	return false
}

// hintFor returns what to do about an error, "" when nothing general helps.
func hintFor(err error, command string) string {
	if h, ok := errors.AsType[hinted](err); ok {
		return h.hint
	}
	if m, ok := errors.AsType[*secret.MissingError](err); ok {
		return fmt.Sprintf("set %s (or its form _FILE, _FD or _CMD), or run the command on a terminal", m.Env)
	}
	if hint := serverHint(err); hint != "" {
		return hint
	}
	switch code := exitCode(err); {
	case code == exitUsage:
		return fmt.Sprintf("see '%s --help'", command)
	case errors.Is(err, repo.ErrOwner):
		return "pass the group's owner with --owner, or use another --backup-id"
	case errors.Is(err, repo.ErrProtected):
		return "take the protection away with 'holdfast snapshot protected update SNAPSHOT false'"
	case errors.Is(err, repo.ErrChunkMissing):
		return "'holdfast verify' lists what is affected; the next backup stores the chunk again if its source still has the data"
	case code == exitLocked:
		return "another operation works there: wait until it is done and try again"
	case errors.Is(err, access.ErrUnknown):
		return "'holdfast server user list', 'server token list' and 'server acl list' show what there is"
	case errors.Is(err, buckets.ErrMissing):
		return "'holdfast server s3-client list' shows what there is"
	case errors.Is(err, objstore.ErrBucket):
		return "check the bucket's name, the endpoint and the region; buckets are made with the provider's own tools"
	case errors.Is(err, objstore.ErrDenied):
		return "check HOLDFAST_S3_ACCESS_KEY and HOLDFAST_S3_SECRET_KEY, the region, and what the provider lets this key do in the bucket"
	case errors.Is(err, objstore.ErrUntrusted):
		return "add the authority's certificate to those of this machine, or name a file with it in SSL_CERT_FILE"
	case errors.Is(err, objstore.ErrClock):
		return "set this machine's clock: an object store refuses what was signed at another time than its own"
	case errors.Is(err, bucket.ErrPast):
		return "leave out at=TIME; what was restores into another place, and 'holdfast sync' brings it into another repository"
	case code == exitNotFound:
		return "'holdfast list' and 'holdfast snapshot list' show what there is; check --repository and --ns"
	case code == exitDamaged && !errors.Is(err, errDamaged):
		return "run 'holdfast verify' to see the extent; 'holdfast debug inspect FILE' shows a file byte by byte"
	case errors.Is(err, keyfile.ErrPassword):
		return "check PBS_ENCRYPTION_PASSWORD; the key file may carry a password hint, see 'holdfast key show'"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "make room on that disk; in a repository 'holdfast prune' and 'holdfast gc' give space back"
	case errors.Is(err, syscall.EMFILE):
		return "raise the limit of open files: ulimit -n, LimitNOFILE= in a unit; a tree needs one for each directory from its top to its deepest"
	case errors.Is(err, fs.ErrPermission):
		return "run it as the user that this belongs to, or as root"
	case code == exitRefused && !errors.Is(err, errRefused):
		return "--keyfile names it; 'holdfast key show FILE' prints the fingerprint of the key in a file"
	}
	return ""
}

// failure is an error as --output-format json shows it.
type failure struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
	Code  int    `json:"exit-code"`
}

// report prints an error where and how the user wants it.
func (a *app) report(err error, command string) {
	if _, ok := errors.AsType[endedError](err); ok {
		return // it was said where it happened
	}
	text, advice := err.Error(), hintFor(err, command)
	if errors.Is(err, context.Canceled) {
		text = "interrupted"
	}
	if a.format == "" { // it failed before the flags were looked at
		a.format, _ = ui.ParseFormat(a.outFormat)
	}
	if a.format.IsJSON() {
		_ = ui.JSON.WriteJSON(a.Stderr, failure{text, advice, exitCode(err)})
		return
	}
	p := a.palette(a.Stderr)
	text = strings.ReplaceAll(ui.CleanText(text), "\n", "\n  ") // several errors
	_, _ = fmt.Fprintf(a.Stderr, "%s %s\n", p.Red(a.name()+":"), text)
	if advice != "" {
		_, _ = fmt.Fprintf(a.Stderr, "%s %s\n", p.Dim("hint:"), ui.CleanText(advice))
	}
}

// name is that of the program that speaks.
func (a *app) name() string {
	if a.Program == pxarProgram {
		return pxarProgram
	}
	return "holdfast"
}
