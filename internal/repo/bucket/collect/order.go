package collect

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// inOrder gets something for each of all, several at once, and use has them in their order: a
// channel of channels, in each of which one comes. So many are there, or on their way, as use
// did not take yet.
func inOrder[T, R any](ctx context.Context, all []T, many int, get func(context.Context, T) R, use func(context.Context, <-chan chan R) error) error {
	g, ctx := errgroup.WithContext(ctx)
	next := make(chan chan R, many)
	g.Go(func() error {
		defer close(next)
		for _, x := range all {
			one := make(chan R, 1)
			select {
			case next <- one:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			g.Go(func() error {
				one <- get(ctx, x)
				return nil
			})
		}
		return nil
	})
	g.Go(func() error { return use(ctx, next) })
	return g.Wait()
}
