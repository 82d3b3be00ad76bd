package simdisk_test

import (
	"maps"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

func FuzzDiskBehavesAsTheKernel(f *testing.F) {
	if runtime.GOOS != "linux" {
		f.Skip("error numbers are compared with those of Linux")
	}
	for seed := range uint64(60) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		o, err := vfs.OpenOS(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		real, sim := newActor(o, seed), newActor(simdisk.New(simdisk.Options{}), seed)
		for i := range 200 {
			if r, s := real.step(), sim.step(); r != s {
				t.Fatalf("step %d: the kernel says %.300q, the disk %.300q", i, r, s)
			}
		}
		for _, a := range real.files {
			a.Close()
		}
		r, err := dump(o)
		if err != nil {
			t.Fatal(err)
		}
		s, err := dump(sim.v)
		if err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(r, s) {
			t.Fatalf("the kernel has %q, the disk %q", keys(r), keys(s))
		}
	})
}

func FuzzCrashKeepsWhatWasSynced(f *testing.F) {
	for seed := range uint64(300) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		d := simdisk.New(simdisk.Options{Capacity: 1 << 30})
		a := newActor(d, seed)
		rng := rand.New(rand.NewPCG(seed, 2))
		for range 5 {
			for range rng.IntN(60) {
				a.step()
			}
			if err := d.SyncFS(); err != nil {
				t.Fatal(err)
			}
			want := mustDump(t, d)
			before := d.Clone()
			for range rng.IntN(40) {
				a.step()
			}
			visible := mustDump(t, d)
			again := d.Clone()
			for _, mode := range []simdisk.Mode{simdisk.Everything, simdisk.Nothing} {
				expect := visible
				if mode == simdisk.Nothing && d.Ops() == before.Ops() {
					expect = want
				}
				if mode == simdisk.Nothing && d.Ops() != before.Ops() {
					continue // File.Sync and SyncDir may have happened
				}
				if got := mustDump(t, d.CrashAs(mode, rng)); !maps.Equal(got, expect) {
					t.Fatalf("crash of kind %v shows %q, want %q", mode, keys(got), keys(expect))
				}
			}
			for range 6 {
				n := rng.Uint64()
				c := d.Crash(rand.New(rand.NewPCG(n, n)))
				got := mustDump(t, c)
				if twin := mustDump(t, again.Crash(rand.New(rand.NewPCG(n, n)))); !maps.Equal(got, twin) {
					t.Fatalf("the same crash of a clone shows %q, want %q", keys(twin), keys(got))
				}
				after := newActor(c, n)
				for range 30 {
					after.step()
				}
				mustDump(t, c)
				if err := c.SyncFS(); err != nil {
					t.Fatal(err)
				}
				synced := mustDump(t, c)
				if got := mustDump(t, c.CrashAs(simdisk.Nothing, rng)); !maps.Equal(got, synced) {
					t.Fatalf("synced after a crash: %q, there after the next: %q", keys(synced), keys(got))
				}
				for _, f := range after.files {
					f.Close()
				}
				accounted(t, c)
			}
			if got := mustDump(t, d); !maps.Equal(got, visible) {
				t.Fatal("a crash changed the disk that it was made from")
			}
			if got := mustDump(t, before); !maps.Equal(got, want) {
				t.Fatal("a clone changed with its original")
			}
		}
	})
}

// accounted compares the running total of used space with a new count.
func accounted(t *testing.T, d *simdisk.Disk) {
	t.Helper()
	running, err := d.Usage()
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := d.CrashAs(simdisk.Everything, rand.New(rand.NewPCG(1, 1))).Usage()
	if err != nil {
		t.Fatal(err)
	}
	if running.Used != fresh.Used {
		t.Fatalf("%d bytes used, by a new count %d", running.Used, fresh.Used)
	}
}

func mustDump(t *testing.T, v vfs.FS) map[string]string {
	t.Helper()
	seen, err := dump(v)
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

func keys(m map[string]string) map[string]string {
	short := map[string]string{}
	for k, v := range m {
		short[k] = v[:min(len(v), 20)]
	}
	return short
}
