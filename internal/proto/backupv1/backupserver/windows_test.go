package backupserver

import "testing"

func TestManySessionsShareTheirWindows(t *testing.T) {
	m := NewMemory(MemoryOptions{})
	defer m.Close()
	const sessions, mib = 32, 1 << 20
	total := 0
	for range sessions {
		total += min(m.enter(), 32*mib)
	}
	if total > 400*mib {
		t.Errorf("%d clients may send %d MiB ahead", sessions, total/mib)
	}
	for range 1000 {
		if w := m.enter(); w < mib {
			t.Fatalf("a window of %d bytes", w)
		}
	}
	for range sessions + 1000 {
		m.leave()
	}
	if w := m.enter(); w < 32*mib {
		t.Errorf("alone, a session has a window of %d bytes", w)
	}
	m.leave()
}
