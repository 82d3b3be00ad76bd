//go:build linux

// Package peers is what the programs want from their callers beside which Holdfast is
// measured.
package peers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/holdfast-backup/holdfast/bench/measure"
)

// KopiaEnv keeps everything that kopia has on its side in a directory.
func KopiaEnv(dir string) []string {
	return []string{
		"KOPIA_PASSWORD=bench", "KOPIA_CONFIG_PATH=" + filepath.Join(dir, "kopia.config"), "KOPIA_CHECK_FOR_UPDATES=false",
		"KOPIA_CACHE_DIRECTORY=" + filepath.Join(dir, "cache"), "KOPIA_LOG_DIR=" + filepath.Join(dir, "log"),
	}
}

// KopiaNewest runs a `snapshot list --json` and returns the newest one, as a restore
// wants it named.
func KopiaNewest(ctx context.Context, list measure.Command) (string, error) {
	out, _, err := list.Run(ctx)
	if err != nil {
		return "", err
	}
	var all []struct {
		RootEntry struct {
			Obj string `json:"obj"`
		} `json:"rootEntry"`
	}
	if err := json.Unmarshal(out, &all); err != nil {
		return "", fmt.Errorf("kopia snapshot list: %w", err)
	}
	if len(all) == 0 {
		return "", errors.New("kopia snapshot list: no snapshot")
	}
	return all[len(all)-1].RootEntry.Obj, nil
}
