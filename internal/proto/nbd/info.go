package nbd

import (
	"fmt"
	"strings"
)

// ExportFlags say what an export can do (the transmission flags).
type ExportFlags uint16

// The export flags.
const (
	HasFlags           ExportFlags = 1 << 0 // always set
	ReadOnly           ExportFlags = 1 << 1
	SendFlush          ExportFlags = 1 << 2
	SendFUA            ExportFlags = 1 << 3
	Rotational         ExportFlags = 1 << 4
	SendTrim           ExportFlags = 1 << 5
	SendWriteZeroes    ExportFlags = 1 << 6
	SendDF             ExportFlags = 1 << 7
	CanMultiConn       ExportFlags = 1 << 8
	SendResize         ExportFlags = 1 << 9
	SendCache          ExportFlags = 1 << 10
	SendFastZero       ExportFlags = 1 << 11
	BlockStatusPayload ExportFlags = 1 << 12
)

var exportFlagNames = []string{
	"HAS_FLAGS", "READ_ONLY", "SEND_FLUSH", "SEND_FUA", "ROTATIONAL", "SEND_TRIM", "SEND_WRITE_ZEROES", "SEND_DF",
	"CAN_MULTI_CONN", "SEND_RESIZE", "SEND_CACHE", "SEND_FAST_ZERO", "BLOCK_STATUS_PAYLOAD",
}

func (f ExportFlags) String() string {
	var set []string
	for i, n := range exportFlagNames {
		if f&(1<<i) != 0 {
			set = append(set, n)
		}
	}
	if rest := f >> len(exportFlagNames); rest != 0 {
		set = append(set, fmt.Sprintf("%#x", uint16(rest<<len(exportFlagNames))))
	}
	return strings.Join(set, "|")
}

// InfoType is a kind of information about an export.
type InfoType uint16

// The kinds of information.
const (
	InfoExport      InfoType = 0
	InfoName        InfoType = 1
	InfoDescription InfoType = 2
	InfoBlockSize   InfoType = 3
)

func (t InfoType) String() string { return name(int(t), "EXPORT", "NAME", "DESCRIPTION", "BLOCK_SIZE") }

// BlockSizes are the constraints of an export, in bytes.
type BlockSizes struct {
	Minimum   uint32 // a power of two, at most 64 KiB
	Preferred uint32 // a power of two
	Maximum   uint32 // payload of one request; 0xffffffff: no limit
}

// Info is one piece of information about an export: the payload of an INFO
// reply. Which fields count depends on Type.
type Info struct {
	Type  InfoType
	Size  uint64      // EXPORT
	Flags ExportFlags // EXPORT
	Text  string      // NAME, DESCRIPTION
	Sizes BlockSizes  // BLOCK_SIZE
}

// Append appends the payload.
func (i Info) Append(b []byte) []byte {
	b = be.AppendUint16(b, uint16(i.Type))
	switch i.Type {
	case InfoExport:
		b = be.AppendUint64(b, i.Size)
		b = be.AppendUint16(b, uint16(i.Flags))
	case InfoName, InfoDescription:
		b = append(b, i.Text...)
	case InfoBlockSize:
		b = be.AppendUint32(b, i.Sizes.Minimum)
		b = be.AppendUint32(b, i.Sizes.Preferred)
		b = be.AppendUint32(b, i.Sizes.Maximum)
	}
	return b
}

// ParseInfo reads the payload of an INFO reply. Of an unknown type only the
// type comes back.
func ParseInfo(b []byte) (Info, error) {
	if len(b) < 2 {
		return Info{}, short("info", len(b), 2)
	}
	i, rest := Info{Type: InfoType(be.Uint16(b))}, b[2:]
	want := len(rest)
	switch i.Type {
	case InfoExport:
		want = 10
	case InfoBlockSize:
		want = 12
	}
	if len(rest) != want {
		return Info{}, short("info "+i.Type.String(), len(b), want+2)
	}
	switch i.Type {
	case InfoExport:
		i.Size, i.Flags = be.Uint64(rest), ExportFlags(be.Uint16(rest[8:]))
	case InfoName, InfoDescription:
		s, err := ParseString(rest)
		if err != nil {
			return Info{}, fmt.Errorf("info %s: %w", i.Type, err)
		}
		i.Text = s
	case InfoBlockSize:
		i.Sizes = BlockSizes{be.Uint32(rest), be.Uint32(rest[4:]), be.Uint32(rest[8:])}
	}
	return i, nil
}

// InfoRequest is the data of the options INFO and GO.
type InfoRequest struct {
	Export string
	Infos  []InfoType // hints what the client wants to know
}

// Append appends the data.
func (r InfoRequest) Append(b []byte) []byte {
	b = appendString(b, r.Export)
	b = be.AppendUint16(b, uint16(len(r.Infos)))
	for _, t := range r.Infos {
		b = be.AppendUint16(b, uint16(t))
	}
	return b
}

// ParseInfoRequest reads the data of INFO and GO.
func ParseInfoRequest(b []byte) (InfoRequest, error) {
	var r InfoRequest
	var err error
	if r.Export, b, err = cutString(b); err != nil {
		return InfoRequest{}, fmt.Errorf("export name: %w", err)
	}
	if len(b) < 2 || len(b) != 2+2*int(be.Uint16(b)) {
		return InfoRequest{}, fmt.Errorf("%w: list of information requests in %d bytes", ErrFormat, len(b))
	}
	for b = b[2:]; len(b) > 0; b = b[2:] {
		r.Infos = append(r.Infos, InfoType(be.Uint16(b)))
	}
	return r, nil
}

// Server is an entry of the reply to LIST.
type Server struct {
	Name, Description string
}

// Append appends the payload.
func (s Server) Append(b []byte) []byte { return append(appendString(b, s.Name), s.Description...) }

// ParseServer reads the payload of a SERVER reply.
func ParseServer(b []byte) (Server, error) {
	var s Server
	var err error
	if s.Name, b, err = cutString(b); err != nil {
		return Server{}, fmt.Errorf("export name: %w", err)
	}
	if s.Description, err = ParseString(b); err != nil {
		return Server{}, fmt.Errorf("description of export %q: %w", s.Name, err)
	}
	return s, nil
}

// AppendExportNameReply appends the answer to EXPORT_NAME.
func AppendExportNameReply(b []byte, size uint64, f ExportFlags, noZeroes bool) []byte {
	b = be.AppendUint64(b, size)
	b = be.AppendUint16(b, uint16(f))
	if !noZeroes {
		b = append(b, make([]byte, ExportNamePadding)...)
	}
	return b
}

// ParseExportNameReply reads the first [ExportNameReplySize] bytes of the
// answer to EXPORT_NAME.
func ParseExportNameReply(b []byte) (size uint64, f ExportFlags, err error) {
	if len(b) < ExportNameReplySize {
		return 0, 0, short("answer to EXPORT_NAME", len(b), ExportNameReplySize)
	}
	return be.Uint64(b), ExportFlags(be.Uint16(b[8:])), nil
}
