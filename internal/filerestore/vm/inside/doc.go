// Package inside is the part of the restore machine that looks at its disks: a
// program in the guest that is started for each question and ends with the answer.
//
// # Calls
//
// [Main] is called with the arguments behind [Command]: one of the operations
// below. Standard input is a [Call] as JSON; standard output is the answer.
//
//	list    JSON values [Item], the last of which has End
//	tree    a stream of package treewire
//	locked  as list: each entry's name is the path of an encrypted volume that is locked
//	header  a piece of the first bytes of such a volume, see [HeaderSize]
//	unlock  as list, of no entries
//
// A question that hangs, or takes all memory, is a process that can be killed, and
// ends with its output cut: no state of the machine is lost but in the kernel,
// which holds what is assembled and mounted. A lock of the whole machine is held
// while a path is followed to its file system, not while that is read.
//
// # Volumes
//
// The host says which disk is which archive ([DisksFile]). What lies on a volume is
// found by package fsread/detect before the kernel is asked, so that only the driver of
// that file system ever sees it, and only its modules are loaded. Partitions are the
// kernel's, through a loop device where it has none for a kind of device. Volume
// groups are activated by the host's lvm, arrays assembled by ioctl, encrypted volumes
// mapped by ioctl with a key that the host derives; all of this when a path leads there.
//
// File systems are mounted read-only with their journals applied, which writes to
// the disk: to what the host throws away at the end. Where that fails they are mounted
// without, and a notice says so. Of btrfs the top is mounted, so that subvolumes
// are directories. No symbolic link is followed and nothing is executed.
package inside

import "github.com/holdfast-backup/holdfast/internal/filerestore"

// Command is the first argument with which the guest's program is this package.
const Command = "restore"

// DisksFile says, as JSON, which archive each drive is, by its serial.
const DisksFile = "/etc/holdfast-disks"

// HeaderSize is how many bytes of an encrypted volume its host gets at most: what
// LUKS keeps its keys in.
const HeaderSize = 16 << 20

// Call is a question.
type Call struct {
	Archive  string   `json:"archive"`
	Names    [][]byte `json:"names"`
	Name     []byte   `json:"name,omitempty"` // of tree: what a file is called
	Follow   bool     `json:"follow,omitempty"`
	Metadata bool     `json:"metadata,omitempty"`
	Crypt    *Crypt   `json:"crypt,omitempty"`  // of unlock
	Offset   int64    `json:"offset,omitempty"` // of header
	Length   int64    `json:"length,omitempty"`
}

// Crypt is how an encrypted volume is to be mapped.
type Crypt struct {
	Cipher     string `json:"cipher"` // as dm-crypt calls it: "aes-xts-plain64"
	Key        []byte `json:"key"`
	Offset     int64  `json:"offset"` // bytes
	SectorSize int    `json:"sector"`
}

// Path is what a call is about.
func (c Call) Path() filerestore.Path {
	p := filerestore.Path{Archive: c.Archive}
	for _, n := range c.Names {
		p.Names = append(p.Names, string(n))
	}
	return p
}

// CallFor asks about a path.
func CallFor(p filerestore.Path) Call {
	c := Call{Archive: p.Archive}
	for _, n := range p.Names {
		c.Names = append(c.Names, []byte(n))
	}
	return c
}

// Item is one value of an answer: an entry, a notice, or the end.
type Item struct {
	Name   []byte `json:"n,omitempty"` // below the path; empty: the path itself
	Type   byte   `json:"t,omitempty"`
	Size   *int64 `json:"s,omitempty"`
	Mtime  *int64 `json:"m,omitempty"`
	Note   string `json:"o,omitempty"`
	Notice string `json:"notice,omitempty"`
	End    bool   `json:"end,omitempty"`
	Error  *Error `json:"error,omitempty"` // with End
}

// Error is an error that keeps what a caller must tell apart.
type Error struct {
	Kind string `json:"kind,omitempty"`
	Text string `json:"text"`
}

// The kinds of errors.
const (
	Missing     = "missing"     // nothing has this name
	Unsupported = "unsupported" // the machine's kernel or tools cannot read it
	Locked      = "locked"      // an encrypted volume whose passphrase is not known
	BadPath     = "path"        // it is no place for this question
)

func (e *Error) Error() string { return e.Text }
