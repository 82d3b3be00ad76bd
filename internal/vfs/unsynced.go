package vfs

import (
	"maps"
	"strings"
	"sync"
)

// unsynced knows the files and directories that SyncFS has to sync where the
// system cannot sync a whole file system in one call.
type unsynced struct {
	mu    sync.Mutex
	files map[string]*written // open for writing, or not synced, by current name
	dirs  map[string]bool     // with names that appeared or vanished
}

// written is a file that this process created. Its fields belong to unsynced.
type written struct {
	name  string
	open  bool
	dirty bool
	gone  bool // has no name any more
}

func newUnsynced() *unsynced {
	return &unsynced{files: map[string]*written{}, dirs: map[string]bool{}}
}

func (u *unsynced) created(name string) *written {
	u.mu.Lock()
	defer u.mu.Unlock()
	w := &written{name: name, open: true, dirty: true}
	u.files[name] = w
	u.entry(name)
	return w
}

// entry notes that a name appeared or vanished; the caller locks.
func (u *unsynced) entry(name string) {
	dir, _ := Split(name)
	u.dirs[dir] = true
}

func (u *unsynced) wrote(w *written) {
	if w == nil { // opened for reading
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	w.dirty = true
}

func (u *unsynced) closed(w *written) {
	if w == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	w.open = false
	if !w.dirty && !w.gone {
		delete(u.files, w.name)
	}
}

func (u *unsynced) changed(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.entry(name)
}

func (u *unsynced) removed(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.lose(name)
	u.entry(name)
	delete(u.dirs, name)
}

func (u *unsynced) lose(name string) {
	if w := u.files[name]; w != nil {
		w.gone = true
		delete(u.files, name)
	}
}

func (u *unsynced) renamed(oldName, newName string, dir bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if oldName == newName {
		return
	}
	u.entry(oldName)
	u.entry(newName)
	if !dir {
		w := u.files[oldName]
		u.lose(newName)
		if w != nil {
			delete(u.files, oldName)
			w.name = newName
			u.files[newName] = w
		}
		return
	}
	for name, w := range maps.Clone(u.files) {
		if rest, ok := strings.CutPrefix(name, oldName+"/"); ok {
			delete(u.files, name)
			w.name = newName + "/" + rest
			u.files[w.name] = w
		}
	}
	for name := range maps.Clone(u.dirs) {
		if rest, ok := strings.CutPrefix(name+"/", oldName+"/"); ok {
			delete(u.dirs, name)
			u.dirs[strings.TrimSuffix(newName+"/"+rest, "/")] = true
		}
	}
}

// next returns something that has to be synced and forgets it.
func (u *unsynced) next() (name string, dir, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for name, w := range u.files {
		if w.dirty {
			w.dirty = false
			if !w.open {
				delete(u.files, name)
			}
			return name, false, true
		}
	}
	for name := range u.dirs {
		delete(u.dirs, name)
		return name, true, true
	}
	return "", false, false
}
