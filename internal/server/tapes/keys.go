package tapes

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/keyfile"
	"github.com/holdfast-backup/holdfast/internal/server/api"
	"github.com/holdfast-backup/holdfast/internal/tape/keys"
)

// Kinds of derivation, as calls name them.
const (
	scryptKDF = "scrypt"
	pbkdf2KDF = "pbkdf2"
)

var (
	kdfParam = api.Choice("kdf", "How the key is derived from the password that it is kept under.", scryptKDF, pbkdf2KDF).Default(scryptKDF)
	hint     = api.Line("hint", "A hint at the password, which everybody sees.", 64).Optional()
	// Passwords have at least 5 characters, as in PBS.
	password    = api.Text("password", "The password that the key is kept under.", 1024)
	newPassword = api.Text("new-password", "The password that the key is kept under from now on.", 1024)
	keyText     = api.Text("key", "A key file, as it was exported or printed: that key is taken in.", 4096).Optional()
	force       = api.Bool("force", "Do without the present password, which takes the plain key from its file.").Default(false)
	fingerprint = api.Parsed("tape-encryption-key-fingerprint", "The fingerprint of the key.", `[0-9a-f]{2}(:[0-9a-f]{2}){31}`, 95, chunkcrypt.ParseFingerprint)
	onePath     = "/config/tape-encryption-keys/{tape-encryption-key-fingerprint}"
)

// keyItem is a key without the key.
type keyItem struct {
	Fingerprint string `json:"fingerprint"`
	KDF         string `json:"kdf"`
	Created     int64  `json:"created"`
	Modified    int64  `json:"modified"`
	Hint        string `json:"hint,omitempty"`
}

func keyItemOf(f *keyfile.File) keyItem {
	return keyItem{f.Fingerprint.String(), string(f.KDF()), f.Created.Unix(), f.Modified.Unix(), f.Hint}
}

func (t *Tapes) keyCalls() []api.Call {
	const at = "/config/tape-encryption-keys"
	see, change := api.Where("/tape/pool", access.TapeAudit), api.Where("/tape/pool", access.TapeModify)
	return []api.Call{
		{Method: "GET", Path: at, Doc: "List the keys of tapes, without the keys.", Guard: see, Do: api.Data(t.listKeys)},
		{
			Method: "POST", Path: at, Doc: "Make a key, or take one in. The fingerprint is the answer.", Guard: change,
			Params: []api.AnyParam{kdfParam, password, hint, keyText}, Do: api.Data(t.addKey),
		},
		{Method: "GET", Path: onePath, Doc: "Show a key, without the key.", Guard: see, Params: []api.AnyParam{fingerprint}, Do: api.Data(t.showKey)},
		{
			Method: "PUT", Path: onePath, Doc: "Put a key under another password.", Guard: change,
			Params: []api.AnyParam{fingerprint, kdfParam, password.Optional(), newPassword, hint, force, digestParam}, Do: api.Nothing(t.changeKey),
		},
		{
			Method: "DELETE", Path: onePath, Doc: "Remove a key. Tapes that are encrypted with it cannot be read any more, unless somebody knows its password.",
			Guard: change, Params: []api.AnyParam{fingerprint, digestParam},
			Do: api.Nothing(func(ctx context.Context, r *api.Request) error {
				return t.keys.Remove(ctx, fingerprint.Of(r), digestParam.Of(r))
			}),
		},
	}
}

func (t *Tapes) listKeys(_ context.Context, r *api.Request) ([]keyItem, error) {
	all, digest, err := t.keys.List()
	if err != nil {
		return nil, err
	}
	r.Set("digest", digest.String())
	list := []keyItem{}
	for _, f := range all {
		list = append(list, keyItemOf(f))
	}
	return list, nil
}

func (t *Tapes) showKey(_ context.Context, r *api.Request) (keyItem, error) {
	f, err := t.keys.File(fingerprint.Of(r))
	if err != nil {
		return keyItem{}, err
	}
	return keyItemOf(f), nil
}

func lockOf(r *api.Request, text string) keys.Lock {
	l := keys.Lock{KDF: keyfile.KDFScrypt, Password: []byte(text), Hint: hint.Of(r)}
	if kdfParam.Of(r) == pbkdf2KDF {
		l.KDF = keyfile.KDFPBKDF2
	}
	return l
}

func (t *Tapes) addKey(ctx context.Context, r *api.Request) (string, error) {
	if text, given := keyText.Given(r); given {
		f, err := t.keys.Import(ctx, []byte(text), []byte(password.Of(r)))
		return f.String(), err
	}
	f, err := t.keys.Create(ctx, lockOf(r, password.Of(r)), t.opt.Now().Truncate(time.Second))
	return f.String(), err
}

func (t *Tapes) changeKey(ctx context.Context, r *api.Request) error {
	old, given := password.Optional().Given(r)
	var present []byte
	switch {
	case given:
		present = []byte(old)
	case !force.Of(r):
		return errors.New("parameter 'password' is missing; with 'force' it is not needed")
	}
	return t.keys.ChangePassword(ctx, fingerprint.Of(r), digestParam.Of(r), present, lockOf(r, newPassword.Of(r)), t.opt.Now())
}
