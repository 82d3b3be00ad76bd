package nbdattach

import (
	"fmt"

	"github.com/mdlayher/netlink"
)

const (
	family        = "nbd"
	familyVersion = 1

	cmdConnect     = 1
	cmdDisconnect  = 2
	cmdReconfigure = 3
	cmdStatus      = 5

	attrIndex       = 1
	attrSize        = 2
	attrBlockSize   = 3
	attrTimeout     = 4
	attrServerFlags = 5
	attrClientFlags = 6
	attrSockets     = 7
	attrDeadTimeout = 8
	attrDeviceList  = 9
	attrIdentifier  = 10

	sockItem, sockFD                       = 1, 1
	deviceItem, deviceIndex, deviceConnect = 1, 1, 2
)

// encodeConnect makes the attributes of CONNECT.
func encodeConnect(o Options) ([]byte, error) {
	e := netlink.NewAttributeEncoder()
	if o.Index != AnyIndex {
		e.Uint32(attrIndex, uint32(o.Index))
	}
	e.Uint64(attrSize, uint64(o.Size))
	if o.BlockSize != 0 {
		e.Uint64(attrBlockSize, uint64(o.BlockSize))
	}
	encodeCommon(e, o)
	e.Uint64(attrServerFlags, o.Flags)
	if o.Identifier != "" {
		e.String(attrIdentifier, o.Identifier)
	}
	return e.Encode()
}

// encodeReconfigure makes the attributes of RECONFIGURE; what is zero stays.
func encodeReconfigure(o Options) ([]byte, error) {
	e := netlink.NewAttributeEncoder()
	e.Uint32(attrIndex, uint32(o.Index))
	encodeCommon(e, o)
	if o.Identifier != "" {
		e.String(attrIdentifier, o.Identifier)
	}
	return e.Encode()
}

func encodeCommon(e *netlink.AttributeEncoder, o Options) {
	if o.Timeout > 0 {
		e.Uint64(attrTimeout, seconds(o.Timeout))
	}
	if o.DeadTimeout > 0 {
		e.Uint64(attrDeadTimeout, seconds(o.DeadTimeout))
	}
	if o.ClientFlags != 0 {
		e.Uint64(attrClientFlags, o.ClientFlags)
	}
	if len(o.Sockets) == 0 {
		return
	}
	e.Nested(attrSockets, func(list *netlink.AttributeEncoder) error {
		for _, fd := range o.Sockets {
			list.Nested(sockItem, func(item *netlink.AttributeEncoder) error {
				item.Uint32(sockFD, uint32(fd))
				return nil
			})
		}
		return nil
	})
}

func encodeIndex(index int) ([]byte, error) {
	e := netlink.NewAttributeEncoder()
	e.Uint32(attrIndex, uint32(index))
	return e.Encode()
}

// decodeIndex reads the answer to CONNECT.
func decodeIndex(b []byte) (int, error) {
	d, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return 0, fmt.Errorf("answer to connect: %w", err)
	}
	index := -1
	for d.Next() {
		if d.Type() == attrIndex {
			index = int(d.Uint32())
		}
	}
	if d.Err() != nil || index < 0 {
		return 0, fmt.Errorf("answer to connect names no device: %x: %w", b, d.Err())
	}
	return index, nil
}

// decodeStatus reads the answer to STATUS: which devices are connected.
func decodeStatus(b []byte) (map[int]bool, error) {
	d, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return nil, fmt.Errorf("answer to status: %w", err)
	}
	connected := map[int]bool{}
	for d.Next() {
		if d.Type() != attrDeviceList {
			continue
		}
		d.Nested(func(list *netlink.AttributeDecoder) error {
			for list.Next() {
				if list.Type() != deviceItem {
					continue
				}
				list.Nested(func(item *netlink.AttributeDecoder) error {
					index, on := -1, false
					for item.Next() {
						switch item.Type() {
						case deviceIndex:
							index = int(item.Uint32())
						case deviceConnect:
							on = item.Uint8() != 0
						}
					}
					if index >= 0 {
						connected[index] = on
					}
					return nil
				})
			}
			return nil
		})
	}
	if err := d.Err(); err != nil {
		return nil, fmt.Errorf("answer to status: %w", err)
	}
	return connected, nil
}
