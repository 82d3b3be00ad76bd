package filemeta

import (
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// AccessText is AccessACL as tar has it: "user::rw-,user:1000:r--,group::r--,
// mask::r--,other::---", ids as numbers; "" where AccessACL is nil.
func AccessText(m *pxar.Metadata) string { return aclText(AccessACL(m)) }

// DefaultText is DefaultACL in the same form.
func DefaultText(m *pxar.Metadata) string { return aclText(DefaultACL(m)) }

// aclText writes the value of a system.posix_acl attribute that was built here.
func aclText(b []byte) string {
	if b == nil {
		return ""
	}
	names := map[uint16]string{
		aclOwner: "user:", aclUser: "user:", aclGroupObj: "group:", aclGroup: "group:", aclMask: "mask:", aclOther: "other:",
	}
	var parts []string
	for b = b[4:]; len(b) > 0; b = b[aclEntrySize:] {
		tag, perm, id := le.Uint16(b), le.Uint16(b[2:]), le.Uint32(b[4:])
		text := names[tag]
		if tag == aclUser || tag == aclGroup {
			text += strconv.FormatUint(uint64(id), 10)
		}
		rwx := []byte(":---")
		for i := range 3 {
			if perm&(4>>i) != 0 {
				rwx[1+i] = "rwx"[i]
			}
		}
		parts = append(parts, text+string(rwx))
	}
	return strings.Join(parts, ",")
}
