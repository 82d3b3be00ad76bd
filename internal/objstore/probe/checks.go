package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/objstore"
)

// holds looks for an object with a body, and for one that is absent where body
// is nil.
func (p *prober) holds(ctx context.Context, key string, body []byte) error {
	b, _, err := objstore.ReadAll(ctx, p.s, p.prefix+key, 1<<20)
	switch {
	case body == nil && errors.Is(err, objstore.ErrNotFound):
		return nil
	case body == nil && err == nil:
		return broken("an object is read after its removal")
	case errors.Is(err, objstore.ErrNotFound):
		return broken("an object is not there after it was written")
	case err != nil:
		return err
	case !bytes.Equal(b, body):
		return broken("an object has not the content that was written last")
	}
	return nil
}

// listed reports whether a listing has an object.
func (p *prober) listed(ctx context.Context, key string) (bool, error) {
	list, _, err := p.s.List(ctx, p.prefix+key, "", 10)
	return slices.ContainsFunc(list, func(i objstore.Info) bool { return i.Key == p.prefix+key }), err
}

func (p *prober) readAfterWrite(ctx context.Context) error {
	for i := range 8 {
		key := fmt.Sprintf("raw/%d", i)
		if err := p.holds(ctx, key, nil); err != nil { // a store may remember that it was not there
			return err
		}
		for range 2 {
			body := text()
			if _, err := p.put(ctx, key, body, objstore.PutOptions{}); err != nil {
				return err
			}
			if err := p.holds(ctx, key, body); err != nil {
				return err
			}
		}
		if is, err := p.listed(ctx, key); err != nil || !is {
			return errors.Join(err, broken("an object is not listed after it was written"))
		}
		if err := p.s.Delete(ctx, []string{p.prefix + key}); err != nil {
			return err
		}
		if err := p.holds(ctx, key, nil); err != nil {
			return err
		}
		if is, err := p.listed(ctx, key); err != nil || is {
			return errors.Join(err, broken("an object is listed after its removal"))
		}
	}
	return nil
}

func (p *prober) ranges(ctx context.Context) error {
	body := bytes.Repeat(text(), 100)
	if _, err := p.put(ctx, "range", body, objstore.PutOptions{}); err != nil {
		return err
	}
	for _, r := range [][2]int{{0, 1}, {1, 17}, {len(body) - 5, len(body)}, {0, len(body)}} {
		part := make([]byte, r[1]-r[0])
		if err := objstore.ReadAt(ctx, p.s, p.prefix+"range", part, int64(r[0])); err != nil {
			return err
		}
		if !bytes.Equal(part, body[r[0]:r[1]]) {
			return broken("bytes %d to %d of an object are others than were written", r[0], r[1])
		}
	}
	return nil
}

func (p *prober) lists(ctx context.Context) error {
	var want []string
	for _, k := range []string{"list/a/b", "list/a-b", "list/B", "list/a.b", "list/ab", "list/0"} {
		want = append(want, p.prefix+k)
		if _, err := p.put(ctx, k, nil, objstore.PutOptions{}); err != nil {
			return err
		}
	}
	slices.Sort(want)
	for after := range len(want) {
		from := ""
		if after > 0 {
			from = want[after-1]
		}
		var got []string
		for {
			page, more, err := p.s.List(ctx, p.prefix+"list/", from, 3)
			if err != nil {
				return err
			}
			for _, i := range page {
				got = append(got, i.Key)
				from = i.Key
			}
			if !more || len(page) == 0 {
				break
			}
		}
		if !slices.Equal(got, want[after:]) {
			return broken("a listing has %d objects in its order, %d were expected in the order of their bytes", len(got), len(want)-after)
		}
	}
	return nil
}

// nested finds engines that keep objects as files of a file system, where a
// cannot be a file and a directory. A repository has no such keys.
func (p *prober) nested(ctx context.Context) error {
	for _, key := range []string{"nested/a", "nested/a/b"} {
		body := text()
		if _, err := p.put(ctx, key, body, objstore.PutOptions{}); err != nil {
			return err
		}
		if err := p.holds(ctx, key, body); err != nil {
			return err
		}
	}
	return nil
}

func (p *prober) deletes(ctx context.Context) error {
	var keys []string
	for i := range 20 {
		key := fmt.Sprintf("delete/%d", i)
		if _, err := p.put(ctx, key, nil, objstore.PutOptions{}); err != nil {
			return err
		}
		keys = append(keys, p.prefix+key)
	}
	if err := p.s.Delete(ctx, append(keys, p.prefix+"delete/never")); err != nil {
		return err
	}
	if list, _, err := p.s.List(ctx, p.prefix+"delete/", "", 10); err != nil || len(list) > 0 {
		return errors.Join(err, broken("%d objects are left after their removal", len(list)))
	}
	return nil
}

// race has many put an object at once, under a condition that only the first can
// meet.
func (p *prober) race(ctx context.Context, key string, c objstore.Condition) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var winners [][]byte
	var failures []error
	for range racers {
		wg.Go(func() {
			body := text()
			_, err := p.put(ctx, key, body, objstore.PutOptions{If: c})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				winners = append(winners, body)
			case !errors.Is(err, objstore.ErrPrecondition):
				failures = append(failures, err)
			}
		})
	}
	wg.Wait()
	switch {
	case len(winners) > 1:
		return broken("%d of %d were told that they alone wrote an object", len(winners), racers)
	case len(failures) > 0:
		return failures[0]
	case len(winners) == 0:
		return broken("of %d that wrote an object nobody was told to have done it", racers)
	}
	return p.holds(ctx, key, winners[0])
}

func (p *prober) ifAbsent(ctx context.Context) error {
	for i := range races {
		key := fmt.Sprintf("absent/%d", i)
		if err := p.race(ctx, key, objstore.IfAbsent); err != nil {
			return err
		}
		if _, err := p.put(ctx, key, text(), objstore.PutOptions{If: objstore.IfAbsent}); !errors.Is(err, objstore.ErrPrecondition) {
			return errors.Join(err, broken("an object was replaced that had to be absent"))
		}
	}
	return nil
}

func (p *prober) ifTag(ctx context.Context) error {
	for i := range races {
		key := fmt.Sprintf("tag/%d", i)
		first, err := p.put(ctx, key, text(), objstore.PutOptions{})
		if err != nil {
			return err
		}
		if err := p.race(ctx, key, objstore.IfTag(first.Tag)); err != nil {
			return err
		}
		if _, err := p.put(ctx, key, text(), objstore.PutOptions{If: objstore.IfTag(first.Tag)}); !errors.Is(err, objstore.ErrPrecondition) {
			return errors.Join(err, broken("an object was replaced though it was not the expected one"))
		}
	}
	return nil
}

func (p *prober) locks(ctx context.Context) error {
	body := text()
	if _, err := p.put(ctx, "locked", body, objstore.PutOptions{}); err != nil {
		return err
	}
	retain := func(d time.Duration) error {
		return p.s.Retain(ctx, p.prefix+"locked", objstore.Retention{Mode: objstore.Governance, Until: p.opt.Now().Add(d)})
	}
	if err := retain(time.Minute); err != nil {
		return err
	}
	defer delete(p.made, "locked") // it cannot be removed now
	// To remove it would not tell: with versions that hides the object, and keeps it.
	if retain(time.Second*30) == nil {
		return broken("the time for which an object is locked was cut short")
	}
	if _, err := p.put(ctx, "locked", text(), objstore.PutOptions{If: objstore.IfAbsent}); err == nil {
		return broken("a locked object was replaced")
	}
	return p.holds(ctx, "locked", body)
}
