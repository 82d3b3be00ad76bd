package scsi

import "fmt"

// Opcode is the first byte of a CDB.
type Opcode uint8

const (
	TestUnitReady              Opcode = 0x00
	Rewind                     Opcode = 0x01
	RequestSense               Opcode = 0x03
	FormatMedium               Opcode = 0x04
	ReadBlockLimits            Opcode = 0x05
	InitializeElementStatus    Opcode = 0x07 // of changers
	Read6                      Opcode = 0x08
	Write6                     Opcode = 0x0a
	WriteFilemarks6            Opcode = 0x10
	Space6                     Opcode = 0x11
	Inquiry                    Opcode = 0x12
	ModeSelect6                Opcode = 0x15
	Erase                      Opcode = 0x19
	ModeSense6                 Opcode = 0x1a
	LoadUnload                 Opcode = 0x1b
	PreventAllowMediumRemoval  Opcode = 0x1e
	PositionToElement          Opcode = 0x2b
	ReadPosition               Opcode = 0x34
	InitializeElementWithRange Opcode = 0x37
	ReportDensitySupport       Opcode = 0x44
	LogSelect                  Opcode = 0x4c
	LogSense                   Opcode = 0x4d
	ModeSelect10               Opcode = 0x55
	ModeSense10                Opcode = 0x5a
	ReadAttribute              Opcode = 0x8c
	WriteAttribute             Opcode = 0x8d
	Space16                    Opcode = 0x91
	Locate16                   Opcode = 0x92
	ReportLUNs                 Opcode = 0xa0
	SecurityProtocolIn         Opcode = 0xa2
	MoveMedium                 Opcode = 0xa5
	ExchangeMedium             Opcode = 0xa6
	SecurityProtocolOut        Opcode = 0xb5
	ReadElementStatus          Opcode = 0xb8
)

// OpcodeOf is the opcode of a CDB, TEST UNIT READY for an empty one.
func OpcodeOf(cdb []byte) Opcode {
	if len(cdb) == 0 {
		return TestUnitReady
	}
	return Opcode(cdb[0])
}

// String is the name of the command as the standards write it.
func (o Opcode) String() string {
	switch o {
	case TestUnitReady:
		return "TEST UNIT READY"
	case Rewind:
		return "REWIND"
	case RequestSense:
		return "REQUEST SENSE"
	case FormatMedium:
		return "FORMAT MEDIUM"
	case ReadBlockLimits:
		return "READ BLOCK LIMITS"
	case InitializeElementStatus:
		return "INITIALIZE ELEMENT STATUS"
	case Read6:
		return "READ(6)"
	case Write6:
		return "WRITE(6)"
	case WriteFilemarks6:
		return "WRITE FILEMARKS(6)"
	case Space6:
		return "SPACE(6)"
	case Inquiry:
		return "INQUIRY"
	case ModeSelect6:
		return "MODE SELECT(6)"
	case Erase:
		return "ERASE"
	case ModeSense6:
		return "MODE SENSE(6)"
	case LoadUnload:
		return "LOAD UNLOAD"
	case PreventAllowMediumRemoval:
		return "PREVENT ALLOW MEDIUM REMOVAL"
	case PositionToElement:
		return "POSITION TO ELEMENT"
	case ReadPosition:
		return "READ POSITION"
	case InitializeElementWithRange:
		return "INITIALIZE ELEMENT STATUS WITH RANGE"
	case ReportDensitySupport:
		return "REPORT DENSITY SUPPORT"
	case LogSelect:
		return "LOG SELECT"
	case LogSense:
		return "LOG SENSE"
	case ModeSelect10:
		return "MODE SELECT(10)"
	case ModeSense10:
		return "MODE SENSE(10)"
	case ReadAttribute:
		return "READ ATTRIBUTE"
	case WriteAttribute:
		return "WRITE ATTRIBUTE"
	case Space16:
		return "SPACE(16)"
	case Locate16:
		return "LOCATE(16)"
	case ReportLUNs:
		return "REPORT LUNS"
	case SecurityProtocolIn:
		return "SECURITY PROTOCOL IN"
	case MoveMedium:
		return "MOVE MEDIUM"
	case ExchangeMedium:
		return "EXCHANGE MEDIUM"
	case SecurityProtocolOut:
		return "SECURITY PROTOCOL OUT"
	case ReadElementStatus:
		return "READ ELEMENT STATUS"
	}
	return fmt.Sprintf("command %#02x", uint8(o))
}
