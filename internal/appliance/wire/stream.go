package wire

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
)

func newStream(s *Session, id uint32, r Request) *Stream {
	st := &Stream{Request: r, session: s, id: id, result: make(chan Result, 1)}
	st.ctx, st.cancel = context.WithCancel(context.Background())
	for c := range channels {
		st.in[c].init(st, c)
		st.out[c].init(st, c)
	}
	return st
}

// Context ends when the host cancels the request or the session ends.
func (st *Stream) Context() context.Context { return st.ctx }

// Reader reads a channel that comes to this side.
func (st *Stream) Reader(c Channel) io.Reader { return &st.in[c] }

// Writer writes a channel that goes to the other side. It waits while the
// window is used up; Close says that nothing more comes.
func (st *Stream) Writer(c Channel) io.WriteCloser { return &st.out[c] }

// Drop says that nobody reads the channel any more: what comes is forgotten,
// and once the window is used up its sender waits for the end of the stream.
func (st *Stream) Drop(c Channel) { st.in[c].drop() }

// End is the guest's last word on the stream.
func (st *Stream) End(r Result) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if len(b) > MaxPayload {
		r.Error = r.Error[:4096] + " …"
		if b, err = json.Marshal(r); err != nil {
			return err
		}
	}
	st.session.forget(st.id)
	st.finish(errEnded)
	return st.session.send(Frame{Stream: st.id, Kind: KindResult, Payload: b})
}

// Cancel asks the guest to end the work. The result comes all the same.
func (st *Stream) Cancel() error {
	return st.session.send(Frame{Stream: st.id, Kind: KindCancel})
}

// Result waits for the guest's last word.
func (st *Stream) Result(ctx context.Context) (Result, error) {
	select { // a result that came before the end counts
	case r := <-st.result:
		return r, nil
	default:
	}
	select {
	case r := <-st.result:
		return r, nil
	case <-st.session.done:
		select {
		case r := <-st.result:
			return r, nil
		default:
		}
		return Result{}, fmt.Errorf("appliance session: %w", st.session.Err())
	case <-ctx.Done():
		return Result{}, context.Cause(ctx)
	}
}

func (st *Stream) takeResult(f Frame) error {
	if st.session.guest {
		return fmt.Errorf("%w: a result from the host", ErrFormat)
	}
	var r Result
	if err := json.Unmarshal(f.Payload, &r); err != nil {
		return fmt.Errorf("%w: result: %w", ErrFormat, err)
	}
	st.result <- r
	st.session.forget(st.id)
	st.finish(nil)
	return nil
}

// finish wakes everybody who waits on the stream. With nil, data that came can
// still be read.
func (st *Stream) finish(err error) {
	st.cancel()
	for c := range channels {
		st.in[c].end(err)
		if err != nil {
			st.out[c].fail(err)
		} else {
			st.out[c].fail(errEnded)
		}
	}
}

// IsEnded reports whether a write failed only because the other side was done
// with the stream: a command may end before it has read its input.
func IsEnded(err error) bool { return err == errEnded } //nolint:errorlint // it is never wrapped

// Abandon gives the stream up on the host's side: nothing of it is waited for
// and what still comes is ignored.
func (st *Stream) Abandon() {
	st.session.forget(st.id)
	st.finish(errCancelled)
}
