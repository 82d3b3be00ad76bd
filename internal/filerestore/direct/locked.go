package direct

import (
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/filerestore"
	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/luks"
)

// maxTries bounds on how many volumes the passphrase is tried: a stranger's disks may
// have as many as they like, each of which takes its time.
const maxTries = 64

// unlock gives what an encrypted volume holds; any other is that itself.
func (v *volume) unlock() (*volume, error) {
	f, err := v.look()
	if err != nil || f.Type != luksVolume {
		return v, err
	}
	held, err := v.decrypted()
	if err != nil {
		return nil, err
	}
	return held.clear() // which may be encrypted once more
}

func (v *volume) decrypted() (*volume, error) {
	d := v.d
	if d.o.Passphrase == nil {
		return nil, filerestore.ErrLocked
	}
	d.unlocking.Lock()
	defer d.unlocking.Unlock()
	if d.tries++; d.tries > maxTries {
		return nil, fsread.Unsupported("luks", "a passphrase for more than %d volumes", maxTries)
	}
	how, err := luks.Unlock(v.img, d.o.Passphrase)
	if errors.Is(err, luks.ErrPassphrase) {
		return nil, fmt.Errorf("%w: tried on %s", filerestore.ErrPassphrase, v.name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", v.name, err)
	}
	img, err := how.Open(v.img)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", v.name, err)
	}
	held := newVolume(d, v.name, img)
	held.number = v.number
	return held, nil
}
