package tcmu

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	coreDir     = "/sys/kernel/config/target/core"
	loopbackDir = "/sys/kernel/config/target/loopback"
	mostUnits   = 256
	mostCores   = 4096

	// The kernel wants a size of everything; tapes and changers have none.
	blockDeviceSize = 1 << 20
	// giveUp is after how long the kernel gives a command up, in seconds. Units
	// that are emulated take no time; a process that hangs shall not hang others
	// for ever.
	giveUp = 3600
)

func checkName(name string) error {
	if name == "" || len(name) > 32 || strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	}) {
		return fmt.Errorf("%q cannot name devices: 1 to 32 letters, digits, '-' and '_' can", name)
	}
	return nil
}

// available says what to do when the kernel lacks something.
func available() error {
	_, err := os.Stat(coreDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: no SCSI target in this kernel: it needs configfs at /sys/kernel/config and the modules target_core_user and tcm_loop", errors.ErrUnsupported)
	case err != nil:
		return err
	}
	return nil
}

// worldwide is a name of SCSI: naa. and 16 hexadecimal digits, of the kind that
// everyone may give at his own place.
func worldwide(role, name string) string {
	sum := sha256.Sum256([]byte("holdfast " + role + " " + name))
	return fmt.Sprintf("naa.3%x", sum[:8])[:20]
}

func fabricDir(name string) string { return filepath.Join(loopbackDir, worldwide("target", name)) }

// set writes an attribute.
func set(value string, path ...string) error {
	p := filepath.Join(path...)
	f, err := os.OpenFile(p, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // each write is an action, and the last one is over
	if _, err := f.WriteString(value); err != nil {
		return fmt.Errorf("%q: %w", value, err)
	}
	return nil
}

// makeCore makes a directory for backends under the first free number.
func makeCore() (string, error) {
	for i := range mostCores {
		dir := filepath.Join(coreDir, "user_"+strconv.Itoa(i))
		err := os.Mkdir(dir, 0o755)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("%w (is the module target_core_user loaded?)", err)
		}
		return dir, nil
	}
	return "", fmt.Errorf("%s has %d backends of this kind", coreDir, mostCores)
}

// configure makes one backend and has the kernel open its ring.
func configure(dir, name string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, v := range []string{
		"dev_size=" + strconv.Itoa(blockDeviceSize), "dev_config=holdfast/" + name,
		"nl_reply_supported=-1", // nobody answers the kernel's netlink messages
	} {
		if err := set(v, dir, "control"); err != nil {
			return err
		}
	}
	if err := set(strconv.Itoa(giveUp), dir, "attrib", "cmd_time_out"); err != nil {
		return err
	}
	return set("1", dir, "enable")
}

// backendsOf finds the backends that configure made for units of a name.
func backendsOf(name string) ([]string, error) {
	dirs, err := filepath.Glob(filepath.Join(coreDir, "user_*", name+".*"))
	return slices.DeleteFunc(dirs, func(d string) bool {
		info, err := os.ReadFile(filepath.Join(d, "info"))
		return err != nil || !strings.Contains(string(info), "holdfast/"+filepath.Base(d))
	}), err
}

// makeFabric connects backends to a host adapter, and returns the address of
// their target.
func makeFabric(name string, backends []*backend) (address string, err error) {
	if err := os.Mkdir(loopbackDir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("%w (is the module tcm_loop loaded?)", err)
	}
	tpg := filepath.Join(fabricDir(name), "tpgt_1")
	if err := os.MkdirAll(tpg, 0o755); err != nil {
		return "", err
	}
	if err := set(worldwide("initiator", name), tpg, "nexus"); err != nil {
		return "", err
	}
	for i, b := range backends {
		lun := filepath.Join(tpg, "lun", "lun_"+strconv.Itoa(i))
		if err := os.Mkdir(lun, 0o755); err != nil {
			return "", err
		}
		if err := os.Symlink(b.dir, filepath.Join(lun, "unit")); err != nil {
			return "", err
		}
	}
	out, err := os.ReadFile(filepath.Join(tpg, "address"))
	return string(bytes.TrimSpace(out)), err
}

// removeFabric undoes makeFabric, as far as it got.
func removeFabric(name string) error {
	tpg := filepath.Join(fabricDir(name), "tpgt_1")
	luns, err := filepath.Glob(filepath.Join(tpg, "lun", "lun_*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, lun := range luns {
		errs = append(errs, removeLink(filepath.Join(lun, "unit")), removeDir(lun))
	}
	return errors.Join(append(errs, removeDir(tpg), removeDir(fabricDir(name)))...)
}

func removeLink(path string) error { return ignore(os.Remove(path), fs.ErrNotExist) }

// removeDir removes a directory of configfs: the kernel fills them, and takes
// what it put there.
func removeDir(path string) error {
	if err := ignore(unix.Rmdir(path), unix.ENOENT); err != nil {
		return &fs.PathError{Op: "rmdir", Path: path, Err: err}
	}
	return nil
}
