package h2

import (
	"encoding/binary"
	"fmt"
)

// settings obeys what the peer announces.
func (c *Conn) settings(h header, b []byte) error {
	if h.stream != 0 || len(b)%settingSize != 0 || h.flags&flagAck != 0 && len(b) != 0 {
		return broken("settings of %d bytes for call %d", len(b), h.stream)
	}
	if h.flags&flagAck != 0 {
		return nil
	}
	for ; len(b) > 0; b = b[settingSize:] {
		if err := c.set(setting{binary.BigEndian.Uint16(b), binary.BigEndian.Uint32(b[2:])}); err != nil {
			return err
		}
	}
	return c.reply(appendFrame(nil, frameSettings, flagAck, 0, nil))
}

func (c *Conn) set(v setting) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.moved.Broadcast()
	switch v.id {
	case settingTable:
		c.tableMax = min(v.value, tableDefault)
	case settingStreams:
		c.most = v.value
	case settingWindow:
		if v.value > windowMax {
			return broken("a window of %d bytes", v.value)
		}
		more := int64(v.value) - c.initial
		c.initial += more
		for _, s := range c.streams {
			if s.window += more; s.window > windowMax {
				return broken("a window of %d bytes", s.window)
			}
		}
	case settingFrame:
		if v.value < frameDefault || v.value > 1<<24-1 {
			return broken("frames of %d bytes", v.value)
		}
		c.frame = int(v.value)
	}
	return nil
}

// windowUpdate opens a window.
func (c *Conn) windowUpdate(h header, b []byte) error {
	if len(b) != 4 {
		return broken("a window update of %d bytes", len(b))
	}
	more := int64(binary.BigEndian.Uint32(b) & windowMax)
	if more == 0 {
		return broken("a window is opened by nothing")
	}
	if h.stream != 0 {
		s, err := c.find(h)
		if err != nil || s == nil {
			return err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.widen(&s.window, more)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.widen(&c.window, more)
}

// widen opens a window. The caller holds mu.
func (c *Conn) widen(window *int64, more int64) error {
	if *window += more; *window > windowMax {
		return broken("a window of %d bytes", *window)
	}
	c.moved.Broadcast()
	return nil
}

// goAway notes that the peer takes no more calls, and ends those that it has not
// taken.
func (c *Conn) goAway(b []byte) error {
	if len(b) < 8 {
		return broken("a farewell of %d bytes", len(b))
	}
	last, why := binary.BigEndian.Uint32(b)&streamMax, code(binary.BigEndian.Uint32(b[4:]))
	err := fmt.Errorf("the server takes no more calls: %s", why)
	if len(b) > 8 {
		err = fmt.Errorf("%w: %.200q", err, b[8:])
	}
	var lost []*stream
	c.mu.Lock()
	if c.leaving == nil {
		c.leaving = err
	}
	for id, s := range c.streams {
		if id > last {
			s.reset = true
			lost = append(lost, s)
		}
	}
	c.moved.Broadcast()
	c.mu.Unlock()
	for _, s := range lost {
		c.cancel(s, err)
	}
	return nil
}
