package guest

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// watchdog ends the agent, and so the machine, when the host has asked for nothing
// for some time. What is being answered holds it.
type watchdog struct {
	after time.Duration // 0: never

	mu    sync.Mutex
	held  int
	timer *time.Timer
}

func newWatchdog() (*watchdog, error) {
	b, err := os.ReadFile(WatchdogFile)
	if os.IsNotExist(err) {
		return &watchdog{}, nil
	}
	if err != nil {
		return nil, err
	}
	w := &watchdog{}
	if w.after, err = time.ParseDuration(strings.TrimSpace(string(b))); err != nil {
		return nil, fmt.Errorf("%s: %w", WatchdogFile, err)
	}
	w.timer = time.AfterFunc(w.after, func() {
		fmt.Printf("holdfast: nobody asked for anything in %v: the power goes off\n", w.after)
		os.Exit(0) // process 1 takes the power
	})
	return w, nil
}

// hold stops the clock until what it returns is called.
func (w *watchdog) hold() (release func()) {
	if w.timer == nil {
		return func() {}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held++
	w.timer.Stop()
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.held--; w.held == 0 {
			w.timer.Reset(w.after)
		}
	}
}
