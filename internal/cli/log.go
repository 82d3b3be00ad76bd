package cli

import "log/slog"

// log is for what happens while something is served: standard error, which is
// the journal under a service manager and a file in the background.
func (a *app) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(a.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}
