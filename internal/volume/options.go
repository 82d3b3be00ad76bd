package volume

import "time"

// Options are those of every operation. The zero value is useful.
type Options struct {
	// Wait is how long to wait for another operation's lock; 0 is DefaultWait.
	Wait time.Duration
}

// DefaultWait is longer than udev looks at a device, and shorter than a person waits.
const DefaultWait = 10 * time.Second

func (o Options) wait() time.Duration {
	if o.Wait == 0 {
		return DefaultWait
	}
	return o.Wait
}
