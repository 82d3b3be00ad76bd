package ext

import "github.com/holdfast-backup/holdfast/internal/fsread"

// ACLs are kept in fewer bytes than the system call gives: version 1, and entries
// of tag and permissions, 2 bytes each, with an id of 4 only where the tag means
// one. The system call's version is 2, and all entries have an id.
const (
	aclDisk  = 1
	aclCall  = 2
	aclUser  = 0x02
	aclGroup = 0x08
	aclNoID  = 1<<32 - 1
)

// acl is the value of an attribute in the form of the system call.
func (f *FS) acl(n *inode, a attribute) ([]byte, error) {
	in := a.value
	if a.inode != 0 {
		var err error
		if in, err = f.valueOf(n, a); err != nil {
			return nil, err
		}
	}
	if len(in) < 4 || le.Uint32(in) != aclDisk {
		return nil, fsread.Corrupt(layer, "inode %d: an ACL of another version", n.num)
	}
	out := le.AppendUint32(nil, aclCall)
	for in = in[4:]; len(in) > 0; {
		size, id := 4, uint32(aclNoID)
		if len(in) >= 2 && (le.Uint16(in) == aclUser || le.Uint16(in) == aclGroup) {
			size = 8
		}
		if len(in) < size {
			return nil, fsread.Corrupt(layer, "inode %d: an ACL that ends within an entry", n.num)
		}
		if size == 8 {
			id = le.Uint32(in[4:])
		}
		out = le.AppendUint32(append(out, in[:4]...), id)
		in = in[size:]
	}
	return out, nil
}
