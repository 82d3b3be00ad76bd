// Package wire is what host and guest of the appliance say to each other: many
// streams over one byte stream, such as a virtio-serial port.
//
// # Frames
//
// Integers are big-endian. A frame is a head of 12 bytes and up to 64 KiB of payload.
//
//	offset  size  field
//	0       4     length of the payload, at most 65536
//	4       4     stream; 0 is the session itself
//	8       1     kind
//	9       1     channel 0, 1 or 2; 0 where the kind has none
//	10      2     zero
//
//	kind    name    from   stream  payload
//	1       hello   guest  0       JSON [Hello]; the first frame of the session
//	2       open    host   new     JSON [Request]
//	3       data    both   open    bytes of the channel, at least one
//	4       end     both   open    none: the channel has no more data
//	5       window  both   open    4 bytes: so many more bytes of the channel may be sent, not zero
//	6       result  guest  open    JSON [Result]; ends the stream
//	7       cancel  host   open    none: end the work, the result says how it ended
//
// # Streams
//
// The host opens a stream with a number that it has not used before and states
// one [Request]. Channel 0 (In) goes to the guest, channels 1 and 2 (Out, Err)
// come from it. The result is the guest's last frame on a stream; whatever it
// sent before belongs to the answer. The host may still send data, windows, an
// end or a cancel that crossed the result: the guest ignores frames on streams
// it does not know. The host does so too only for streams that it has opened.
//
// # Flow control
//
// Each channel starts with a window of 256 KiB. Its sender takes the length of
// every data frame from it and waits when nothing is left; its receiver gives
// back what the reader has consumed. So a reader that stalls stops one channel
// and never the session, and memory is at most 256 KiB for each channel: 768 KiB
// a stream, with at most 64 streams open (the guest refuses more by an error in
// the result).
//
// # Errors
//
// [ErrFormat]: bytes that are no frame, or a frame that has no place there. The
// session ends then; both sides are built from one source, so there is nothing
// to negotiate. [Hello] carries the version of this text.
package wire

// Version is the protocol's number in [Hello].
const Version = 1

// Hello is the guest's first word: it is ready.
type Hello struct {
	Version  int      `json:"version"`
	Kernel   string   `json:"kernel"`
	Uptime   float64  `json:"uptime"` // seconds since the guest's kernel started
	Warnings []string `json:"warnings,omitempty"`
}

// Operations of a Request.
const (
	OpRun      = "run"      // Args, Env, Dir; In is standard input, Out and Err are the outputs
	OpPut      = "put"      // Path, Mode; In is the content
	OpGet      = "get"      // Path; Out is the content
	OpMount    = "mount"    // Source, Path, FSType, Flags, Data
	OpUnmount  = "unmount"  // Path
	OpLoad     = "load"     // Modules: files, in order
	OpPing     = "ping"     // nothing: the guest answers
	OpPowerOff = "poweroff" // syncs; the result comes before the power goes
)

// Request is what a stream is opened for.
type Request struct {
	Op      string   `json:"op"`
	Args    []string `json:"args,omitempty"`
	Env     []string `json:"env,omitempty"` // added to the agent's own
	Dir     string   `json:"dir,omitempty"`
	Path    string   `json:"path,omitempty"`
	Mode    uint32   `json:"mode,omitempty"`
	Source  string   `json:"source,omitempty"`
	FSType  string   `json:"fstype,omitempty"`
	Flags   uint64   `json:"flags,omitempty"`
	Data    string   `json:"data,omitempty"`
	Modules []string `json:"modules,omitempty"`
}

// Result ends a stream. Error is set when the operation could not be done; a
// command that ran and failed has Code or Signal instead.
type Result struct {
	Error  string `json:"error,omitempty"`
	Code   int    `json:"code,omitempty"`
	Signal string `json:"signal,omitempty"`
}
