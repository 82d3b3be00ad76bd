package appliance

import (
	"bytes"
	"os"
	"path/filepath"
	"sync/atomic"
)

// What is known of KVM on this host lasts until it boots again: for this
// process, and in the user's cache for the next one.
var kvmFailed atomic.Bool

const (
	kvmMark = "kvm-fails" // in the cache: the boot's number during which KVM failed
	bootID  = "/proc/sys/kernel/random/boot_id"
)

// tryKVM reports whether KVM is worth an attempt.
func tryKVM() bool {
	if kvmFailed.Load() {
		return false
	}
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	_ = f.Close()
	dir, err := UserCache()
	if err != nil {
		return true
	}
	known, err := os.ReadFile(filepath.Join(dir, kvmMark))
	now, nowErr := os.ReadFile(bootID)
	return err != nil || nowErr != nil || !bytes.Equal(known, now)
}

// rememberKVMFails spares later machines the attempt. Where it cannot be
// written down, the attempt is made again.
func rememberKVMFails() {
	kvmFailed.Store(true)
	dir, err := UserCache()
	if err != nil {
		return
	}
	if now, err := os.ReadFile(bootID); err == nil && os.MkdirAll(dir, 0o755) == nil {
		_ = os.WriteFile(filepath.Join(dir, kvmMark), now, 0o644)
	}
}
