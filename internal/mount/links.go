package mount

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// Links knows how many names each file of an archive has, and which attributes
// there are at all. Nil is the state of not knowing.
type Links struct {
	targets []int64 // of all hard links, sorted
	acls    bool    // something has an ACL
	xattrs  bool    // or other extended attributes
}

// CountLinks looks at all items of an archive.
func CountLinks(ctx context.Context, a *pxar.Archive) (*Links, error) {
	l := &Links{}
	seen := 0
	for it, err := range a.Items() {
		if err != nil {
			return nil, fmt.Errorf("count hard links: %w", err)
		}
		switch it.Type {
		case pxar.TypeHardlink:
			if len(l.targets) == MaxLinks {
				return nil, errTooMany
			}
			l.targets = append(l.targets, it.Link)
		case pxar.TypeXattr, pxar.TypeFCaps:
			l.xattrs = true
		case pxar.TypeACLUser, pxar.TypeACLGroup, pxar.TypeACLGroupObj,
			pxar.TypeACLDefault, pxar.TypeACLDefaultUser, pxar.TypeACLDefaultGroup:
			l.acls = true
		}
		if seen++; seen%4096 == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	slices.Sort(l.targets)
	return l, nil
}

// LinksTo is what is known from the Links of all hard links of an archive. The
// list is kept, and sorted.
func LinksTo(targets []int64) (*Links, error) {
	if len(targets) > MaxLinks {
		return nil, errTooMany
	}
	slices.Sort(targets)
	return &Links{targets: targets, acls: true, xattrs: true}, nil
}

var errTooMany = fmt.Errorf("count hard links: there are more than %d", MaxLinks)

// of returns how many names the file at an offset has.
func (l *Links) of(offset int64) uint32 {
	if l == nil {
		return 2
	}
	first, _ := slices.BinarySearch(l.targets, offset)
	last, _ := slices.BinarySearch(l.targets[first:], offset+1)
	return uint32(min(1+last, math.MaxInt32))
}

func (l *Links) hasACLs() bool   { return l == nil || l.acls }
func (l *Links) hasXattrs() bool { return l == nil || l.acls || l.xattrs }
