//go:build linux

package trees

import (
	"errors"
	"fmt"
	"os/exec"
)

// unflag takes append only and immutable off a tree.
func unflag(dir string) error {
	out, err := exec.Command("python3", "../check/mktree.py", "--release", dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mktree.py --release: %w: %s", err, out)
	}
	return nil
}

// remove removes a restored tree, to make room for the next.
func remove(dir string) error {
	err := unflag(dir)
	if out, rmErr := exec.Command("rm", "-rf", dir).CombinedOutput(); rmErr != nil {
		err = errors.Join(err, fmt.Errorf("rm -rf %s: %w: %s", dir, rmErr, out))
	}
	return err
}
