package qmp

import (
	"context"
	"slices"
)

// keepEvents is how many events a subscription holds.
const keepEvents = 64

// Events is a subscription. Next is for one reader.
type Events struct {
	c     *Client
	names []string
	ch    chan Event
}

// Subscribe begins to collect the events of these names.
func (c *Client) Subscribe(names ...string) *Events {
	s := &Events{c: c, names: names, ch: make(chan Event, keepEvents)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.subs == nil { // the connection has ended
		close(s.ch)
		return s
	}
	c.subs[s] = struct{}{}
	return s
}

// publish is called with mu held.
func (c *Client) publish(e Event) {
	for s := range c.subs {
		if !slices.Contains(s.names, e.Name) {
			continue
		}
		select {
		case s.ch <- e:
		default: // see the package comment
		}
	}
}

// Next waits for an event. When the connection has ended the error wraps
// ErrClosed.
func (s *Events) Next(ctx context.Context) (Event, error) {
	select {
	case e, ok := <-s.ch:
		if !ok {
			return Event{}, s.c.ended()
		}
		return e, nil
	case <-ctx.Done():
		return Event{}, context.Cause(ctx)
	}
}

// Close ends the subscription.
func (s *Events) Close() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	delete(s.c.subs, s)
}

// ended is why the connection is over.
func (c *Client) ended() error {
	<-c.over
	return c.err
}
