package cli

import (
	"runtime"

	"github.com/holdfast-backup/holdfast/internal/zstd"
	"github.com/spf13/cobra"
)

func newVersionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Long: `Prints the version, the compression library inside, the Go release it was built
with, and the platform.`,
		Example: `  holdfast version
  holdfast version --output-format json`,
		Args:              exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(*cobra.Command, []string) error { return runVersion(a) },
	}
}

func runVersion(a *app) error {
	platform := runtime.GOOS + "/" + runtime.GOARCH
	return a.print(map[string]any{
		"client": map[string]string{"version": a.Version, "zstd": zstd.Backend, "go": runtime.Version(), "platform": platform},
	}, func() error {
		return a.printf("holdfast %s\nzstd: %s\n%s %s\n", a.Version, zstd.Backend, runtime.Version(), platform)
	})
}
