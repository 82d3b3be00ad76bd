package agent

import "context"

// Freeze makes the file systems of the guest consistent on their disks and
// holds all writes back. It returns how many there are.
func (c *Client) Freeze(ctx context.Context) (n int, err error) {
	err = c.Run(ctx, "guest-fsfreeze-freeze", nil, &n)
	return n, err
}

// Thaw lets the guest write again.
func (c *Client) Thaw(ctx context.Context) (n int, err error) {
	err = c.Run(ctx, "guest-fsfreeze-thaw", nil, &n)
	return n, err
}

// Frozen reports whether the guest is frozen.
func (c *Client) Frozen(ctx context.Context) (bool, error) {
	var state string
	err := c.Run(ctx, "guest-fsfreeze-status", nil, &state)
	return state == "frozen", err
}
