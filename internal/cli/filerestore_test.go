package cli

import (
	"context"
	"fmt"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

func TestNoDiskIsBlamedForAnInterruption(t *testing.T) {
	broken := fmt.Errorf("/etc: %w", fsread.Corrupt("ext4", "inode 12 cannot be read"))
	ctx, cancel := context.WithCancelCause(t.Context())
	if code := exitCode(explainFiles(ctx, broken)); code != exitDamaged {
		t.Errorf("exit code %d", code)
	}
	cancel(ErrInterrupted)
	if code := exitCode(explainFiles(ctx, broken)); code != exitInterrupted {
		t.Errorf("interrupted: exit code %d", code)
	}
}
