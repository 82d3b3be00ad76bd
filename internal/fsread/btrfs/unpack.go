package btrfs

import (
	"bytes"
	"compress/zlib"
	"errors"
	"io"

	"github.com/holdfast-backup/holdfast/internal/fsread/lzo"
	"github.com/holdfast-backup/holdfast/internal/zstd"
)

// unpack decompresses what has n bytes then. ok: it has, and not more.
func unpack(pack byte, b []byte, n, sector int64) (out []byte, ok bool) {
	switch pack {
	case packNone:
		return b, true
	case packZlib:
		return unzlib(b, n)
	case packLZO:
		return unlzo(b, n, sector)
	}
	return unzstd(b, n)
}

func unzlib(b []byte, n int64) ([]byte, bool) {
	z, err := zlib.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, false
	}
	out := make([]byte, n)
	got, err := io.ReadFull(z, out)
	return out, err == nil || errors.Is(err, io.ErrUnexpectedEOF) && got > 0
}

// unzstd decompresses the one frame that b begins with; zeros follow it.
func unzstd(b []byte, n int64) ([]byte, bool) {
	size, ok := zstd.FrameLength(b)
	if !ok {
		return nil, false
	}
	d, err := zstd.NewDecoder()
	if err != nil {
		return nil, false
	}
	defer d.Close()
	// The frame may hold a whole sector where the file ends within.
	out := make([]byte, maxUnpacked)
	got, err := d.Decompress(out, b[:size])
	if err != nil {
		return nil, false
	}
	clear(out[got:])
	return out[:n], true
}

// unlzo decompresses the segments of btrfs: the length of all (4), then each with
// its length (4), a sector of data in each, and no length across two sectors.
func unlzo(b []byte, n, sector int64) ([]byte, bool) {
	if len(b) < 4 {
		return nil, false
	}
	total := int64(le.Uint32(b))
	if total > int64(len(b)) || total < 4 {
		return nil, false
	}
	out := make([]byte, 0, n+sector)
	for at := int64(4); at < total && int64(len(out)) < n; {
		if left := sector - at%sector; left < 4 {
			at += left
		}
		if at+4 > total {
			return nil, false
		}
		size := int64(le.Uint32(b[at:]))
		at += 4
		if size > total-at {
			return nil, false
		}
		piece := make([]byte, sector)
		got, ok := lzo.Decompress(piece, b[at:at+size])
		if !ok {
			return nil, false
		}
		out = append(out, piece[:got]...)
		at += size
	}
	if int64(len(out)) < n {
		out = append(out, make([]byte, n-int64(len(out)))...)
	}
	return out[:n], true
}
