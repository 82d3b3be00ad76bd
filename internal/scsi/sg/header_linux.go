package sg

import "github.com/holdfast-backup/holdfast/internal/scsi"

// header is struct sg_io_hdr, 88 bytes where pointers have 8.
type header struct {
	InterfaceID    int32 // 'S'
	Direction      int32
	CDBLen         uint8
	SenseMax       uint8 // room for the sense
	IovecCount     uint16
	DataLen        uint32
	Data           uintptr
	CDB            uintptr
	Sense          uintptr
	Timeout        uint32 // milliseconds
	Flags          uint32
	PackID         int32 // comes back with the answer
	UsrPtr         uintptr
	Status         uint8 // the device's
	MaskedStatus   uint8
	MsgStatus      uint8
	SenseLen       uint8  // bytes of sense that came
	HostStatus     uint16 // the host adapter's
	DriverStatus   uint16 // the kernel's
	Resid          int32  // bytes that were not moved
	DurationMillis uint32
	Info           uint32
}

// frame is what the kernel reads and fills besides the data.
type frame struct {
	header header
	cdb    [scsi.MaxCDB]byte
	sense  [scsi.MaxSenseSize]byte
}

const (
	interfaceID = 'S'

	directionNone = -1
	directionOut  = -2
	directionIn   = -3

	ioctlSetReserved = 0x2275 // SG_SET_RESERVED_SIZE
	ioctlVersion     = 0x2282 // SG_GET_VERSION_NUM
	ioctlIO          = 0x2285 // SG_IO
	ioctlMaxBytes    = 0x1267 // BLKSECTGET, which of sg gives bytes

	leastVersion = 30000 // of the driver that knows this header

	majorTape    = 9
	majorGeneric = 21
)

// directions are those of the header by those of the command.
var directions = [...]int32{scsi.None: directionNone, scsi.In: directionIn, scsi.Out: directionOut}
