package idmap_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/idmap"
	"pgregory.net/rapid"
)

// specs makes a map of the form of a command line.
func specs(t testing.TB, list ...string) *idmap.Map {
	t.Helper()
	m, err := idmap.ParseSpecs(list...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestIDsMoveWithTheirRange(t *testing.T) {
	m := specs(t, "u:1000:1000:1", "u:0:100000:1000", "u:1001:101001:64535", "g:0:200000:65536")
	for _, tc := range []struct {
		name            string
		table           *idmap.Table
		container, host uint32
	}{
		{"first", m.Users(), 0, 100000},
		{"last of a range", m.Users(), 999, 100999},
		{"range of one", m.Users(), 1000, 1000},
		{"first behind it", m.Users(), 1001, 101001},
		{"last of all", m.Users(), 65535, 165535},
		{"groups have their own", m.Groups(), 1000, 201000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, ok := tc.table.ToHost(tc.container); got != tc.host || !ok {
				t.Errorf("ToHost(%d) = %d, %v, want %d", tc.container, got, ok, tc.host)
			}
			if got, ok := tc.table.ToContainer(tc.host); got != tc.container || !ok {
				t.Errorf("ToContainer(%d) = %d, %v, want %d", tc.host, got, ok, tc.container)
			}
		})
	}
}

func TestIDsOutsideOfAllRangesHaveNoCounterpart(t *testing.T) {
	m := specs(t, "b:10:1000:5", "b:20:2000:5")
	for _, id := range []uint32{0, 999, 1005, 1999, 2005, 4294967295} {
		if got, ok := m.Users().ToContainer(id); ok {
			t.Errorf("user %d of the host is %d in the container, want none", id, got)
		}
	}
	for _, id := range []uint32{0, 9, 15, 19, 25, 1000, 4294967295} {
		if got, ok := m.Groups().ToHost(id); ok {
			t.Errorf("group %d of the container is %d on the host, want none", id, got)
		}
	}
}

func TestNilAndEmptyMapsChangeNothing(t *testing.T) {
	empty, err := idmap.New(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]*idmap.Map{"nil": nil, "empty": empty, "zero": {}} {
		if !m.Empty() || m.String() != "" {
			t.Errorf("%s: Empty() = %v, String() = %q", name, m.Empty(), m)
		}
		for _, table := range []*idmap.Table{m.Users(), m.Groups()} {
			for _, id := range []uint32{0, 1, 65534, 4294967295} {
				in, ok1 := table.ToContainer(id)
				out, ok2 := table.ToHost(id)
				if in != id || out != id || !ok1 || !ok2 {
					t.Errorf("%s: %d becomes %d and %d", name, id, in, out)
				}
			}
		}
	}
}

func TestWhatTheKernelWouldRefuseIsRefused(t *testing.T) {
	many := make([]string, idmap.MaxRanges+1)
	for i := range many {
		many[i] = fmt.Sprintf("b:%d:%d:1", i, i)
	}
	for _, tc := range []struct {
		name string
		list []string
		want string
	}{
		{"users alone", []string{"u:0:100000:65536"}, "nothing of groups"},
		{"groups alone", []string{"g:0:100000:65536"}, "nothing of users"},
		{"no ids", []string{"b:0:100000:0"}, "range of no users"},
		{"past the highest id of the host", []string{"b:0:4294967295:1"}, "highest id is 4294967294"},
		{"past the highest id of the container", []string{"b:4294967290:0:6"}, "highest id is 4294967294"},
		{"overlap in the container", []string{"b:0:1000:10", "b:9:5000:10"}, "users of the container from 9 on are in two ranges"},
		{"overlap on the host", []string{"b:0:1000:10", "b:100:1009:10"}, "users of the host from 1009 on are in two ranges"},
		{"the same twice", []string{"b:0:1000:10", "b:0:1000:10"}, "two ranges"},
		{"overlap of groups", []string{"u:0:0:1", "g:0:0:2", "g:1:7:1"}, "groups of the container from 1 on"},
		{"too many", many, "340"},
		{"no kind", []string{"0:0:1"}, "three numbers"},
		{"other kind", []string{"x:0:0:1"}, "none of u"},
		{"two numbers", []string{"b:0:0"}, "three numbers"},
		{"four numbers", []string{"b:0:0:1:1"}, "three numbers"},
		{"sign", []string{"b:-1:0:1"}, "no number"},
		{"past 32 bits", []string{"b:4294967296:0:1"}, "no number"},
		{"space", []string{"b: 0:0:1"}, "no number"},
		{"nothing", []string{""}, "three numbers"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, err := idmap.ParseSpecs(tc.list...)
			if !errors.Is(err, idmap.ErrInvalid) || m != nil {
				t.Fatalf("map %v, err = %v, want ErrInvalid", m, err)
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q does not say %q", err, tc.want)
			}
		})
	}
}

func TestTheHighestIDCanBeMapped(t *testing.T) {
	m := specs(t, "b:0:0:4294967295")
	if got, ok := m.Users().ToHost(4294967294); got != 4294967294 || !ok {
		t.Errorf("got %d, %v", got, ok)
	}
	if _, ok := m.Users().ToHost(4294967295); ok {
		t.Error("4294967295 means no id, and was mapped")
	}
}

// model is the map as a plain list.
func model(ranges []idmap.Range, id uint32, from, to func(idmap.Range) uint32) (uint32, bool) {
	for _, r := range ranges {
		if id >= from(r) && uint64(id) < uint64(from(r))+uint64(r.Count) {
			return to(r) + id - from(r), true
		}
	}
	return 0, false
}

func TestLookupsAreThoseOfAPlainList(t *testing.T) {
	container := func(r idmap.Range) uint32 { return r.Container }
	host := func(r idmap.Range) uint32 { return r.Host }
	rapid.Check(t, func(t *rapid.T) {
		var ranges []idmap.Range
		small := rapid.Uint32Range(0, 60)
		for range rapid.IntRange(1, 6).Draw(t, "ranges") {
			ranges = append(ranges, idmap.Range{Container: small.Draw(t, "container"), Host: small.Draw(t, "host"), Count: rapid.Uint32Range(1, 9).Draw(t, "count")})
		}
		m, err := idmap.New(ranges, ranges)
		if err != nil {
			return
		}
		for id := range uint32(80) {
			in, ok := m.Users().ToContainer(id)
			if want, wantOK := model(ranges, id, host, container); in != want || ok != wantOK {
				t.Fatalf("%s: ToContainer(%d) = %d, %v, want %d, %v", m, id, in, ok, want, wantOK)
			}
			out, ok := m.Groups().ToHost(id)
			if want, wantOK := model(ranges, id, container, host); out != want || ok != wantOK {
				t.Fatalf("%s: ToHost(%d) = %d, %v, want %d, %v", m, id, out, ok, want, wantOK)
			}
		}
	})
}

func BenchmarkToContainer(b *testing.B) {
	for _, list := range [][]string{{"b:0:100000:65536"}, {"b:0:100000:1000", "b:1000:1000:1", "b:1001:101001:64535"}} {
		m := specs(b, list...)
		b.Run(fmt.Sprintf("ranges=%d", len(list)), func(b *testing.B) {
			b.ReportAllocs()
			users := m.Users()
			for b.Loop() {
				if _, ok := users.ToContainer(100033); !ok {
					b.Fatal("not mapped")
				}
			}
		})
	}
}
