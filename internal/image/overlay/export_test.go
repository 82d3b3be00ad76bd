package overlay

// What an overlay lies on, for tests that bring their own.
type (
	Disk = disk
	File = file
)

// The same as without On, on any disk.
var (
	CreateOn   = create
	OpenOn     = open
	ReadMetaOn = readMeta
)

// CachedPages is how many map pages are in memory.
func (o *Overlay) CachedPages() int {
	o.m.mu.Lock()
	defer o.m.mu.Unlock()
	return max(len(o.m.ring), len(o.m.cached))
}
