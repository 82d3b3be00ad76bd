package qcow2

// CachedBytes is what the table cache holds.
func (i *Image) CachedBytes() int64 {
	c := i.layers[0].cache
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}
