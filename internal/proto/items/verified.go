package items

import (
	"fmt"
	"strings"
)

// Verified is what a verification has read, which the log of its task ends with.
// Other servers write no such line.
type Verified struct {
	Snapshots     int
	Chunks, Bytes int64 // as they are stored
}

const verifiedLine = "verified %d snapshots: %d chunks, %d bytes as stored"

// String is the line of the log.
func (v Verified) String() string {
	return fmt.Sprintf(verifiedLine, v.Snapshots, v.Chunks, v.Bytes)
}

// ParseVerified reads a line of a log, which may begin with a time, and may be any
// other.
func ParseVerified(line string) (v Verified, ok bool) {
	_, after, timed := strings.Cut(line, ": ")
	if timed && strings.HasPrefix(after, "verified ") {
		line = after
	}
	_, err := fmt.Sscanf(line, verifiedLine, &v.Snapshots, &v.Chunks, &v.Bytes)
	return v, err == nil && v.String() == line
}
