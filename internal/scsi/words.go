package scsi

import "fmt"

// Error says what the device said, in a sentence, with the numbers in brackets
// for the vendor's handbook.
func (s *Sense) Error() string {
	what := s.meaning()
	if s.Deferred {
		what += ", for an earlier command"
	}
	return fmt.Sprintf("%s: %s [%x/%02x/%02x]", s.Op, what, uint8(s.Key), s.ASC, s.ASCQ)
}

// meanings are the codes that tape drives and changers give, from SPC-5
// annex F; what is not here is told by its key.
var meanings = map[uint16]string{
	0x0001: "a filemark was met",
	0x0002: "the end of the medium is near",
	0x0004: "the beginning of the medium was met",
	0x0005: "the end of the data was met",
	0x0007: "the programmed early warning was met",
	0x001a: "the tape is being rewound",
	0x0300: "a fault while writing",
	0x0401: "the device is becoming ready",
	0x0402: "the device waits to be started",
	0x0403: "the device needs a person's help",
	0x0404: "a format is running",
	0x0407: "an operation is running",
	0x0412: "the device is offline",
	0x0c00: "a write error",
	0x1100: "a read error that could not be corrected",
	0x1400: "the recorded position was not found",
	0x1403: "the end of the data was not found",
	0x1a00: "the length of the parameters is wrong",
	0x2000: "the device does not know this command",
	0x2101: "there is no such element",
	0x2400: "a field of the command is not supported",
	0x2500: "there is no such logical unit",
	0x2600: "a field of the parameters is not supported",
	0x2700: "the medium is write protected",
	0x2800: "the medium may have been changed",
	0x2801: "an import or export element was opened",
	0x2900: "the device was switched on or reset",
	0x2901: "the device was switched on",
	0x2902: "the bus was reset",
	0x2904: "the device was reset by itself",
	0x2a01: "the mode of the device was changed",
	0x2a10: "the clock of the device was changed",
	0x3000: "the medium is not fit for this drive",
	0x3001: "the format of the medium is unknown",
	0x3002: "the medium is not fit for this drive",
	0x3003: "a cleaning cartridge is loaded",
	0x3005: "the medium cannot be written by this drive",
	0x3007: "the cleaning failed",
	0x300c: "data on a WORM medium cannot be overwritten",
	0x3100: "the format of the medium is damaged",
	0x3a00: "there is no medium",
	0x3a01: "there is no medium, the door is closed",
	0x3a02: "there is no medium, the door is open",
	0x3a04: "the medium is not loaded",
	0x3b00: "a positioning error",
	0x3b01: "a positioning error at the beginning of the medium",
	0x3b02: "a positioning error at the end of the medium",
	0x3b0d: "the destination is full",
	0x3b0e: "the source is empty",
	0x3b11: "the magazine is not there",
	0x3b12: "the magazine was taken out",
	0x4400: "a fault inside the device",
	0x5000: "an error while appending",
	0x5100: "an error while erasing",
	0x5200: "a fault of the cartridge",
	0x5300: "loading or ejecting failed",
	0x5302: "taking the medium out is prevented",
	0x5304: "the medium is locked",
	0x5502: "there is not enough room for the log",
	0x7401: "the data cannot be decrypted, no key is loaded",
	0x7402: "the block is not encrypted, the drive only decrypts",
	0x7403: "the data cannot be decrypted, another key is loaded",
	0x740b: "the library manages the encryption",
}

var keys = [...]string{
	NoSense: "nothing to report", Recovered: "an error that was corrected", NotReady: "the device is not ready",
	MediumError: "an error of the medium", HardwareError: "an error of the device", IllegalRequest: "the command is not accepted",
	UnitAttention: "something happened to the device", DataProtect: "the medium is protected", BlankCheck: "there is no data here",
	VendorSpecific: "a vendor's code", CopyAborted: "a copy was aborted", AbortedCommand: "the device gave the command up",
	0xc: "equal", VolumeOverflow: "the medium is full", Miscompare: "the data differs", 0xf: "completed",
}

func (s *Sense) meaning() string {
	if m, ok := meanings[s.Code()]; ok && s.Code() != 0 {
		return m
	}
	switch {
	case s.Filemark:
		return meanings[0x0001]
	case s.EOM && s.Key == NoSense:
		return meanings[0x0002]
	case s.ILI && s.Key == NoSense:
		return "the block has another length"
	}
	return keys[s.Key&0x0f]
}
