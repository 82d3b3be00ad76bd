package mam

// ID is the number of an attribute.
type ID uint16

// The attributes that programs fill.
const (
	Vendor    ID = 0x0800
	Name      ID = 0x0801
	Version   ID = 0x0802
	UserLabel ID = 0x0803
	Written   ID = 0x0804
	TextKind  ID = 0x0805
	Barcode   ID = 0x0806
	Owner     ID = 0x0807
	Pool      ID = 0x0808
)

// The attributes that the driver looks at.
const (
	Alerts       ID = 0x0002
	LifeWritten  ID = 0x0220 // MiB
	LifeRead     ID = 0x0221
	Manufactured ID = 0x0406 // YYYYMMDD
	Serial       ID = 0x0401
	MediumType   ID = 0x0408 // 00 data, 01 cleaning, 80 WORM
)

// kind is how a value is shown.
type kind int

const (
	number kind = iota
	binary
	ascii
	text
)

// attribute is what the standard says of one.
type attribute struct {
	name string
	size int // of the value; 0: any
	kind kind
}

// attributes is SPC-4, tables 382 to 395.
var attributes = map[ID]attribute{
	0x0000:       {"Remaining Capacity In Partition", 8, number},
	0x0001:       {"Maximum Capacity In Partition", 8, number},
	Alerts:       {"Tapealert Flags", 8, number},
	0x0003:       {"Load Count", 8, number},
	0x0004:       {"MAM Space Remaining", 8, number},
	0x0005:       {"Assigning Organization", 8, ascii},
	0x0006:       {"Formatted Density Code", 1, binary},
	0x0007:       {"Initialization Count", 2, number},
	0x0008:       {"Volume Identifier", 32, ascii},
	0x0009:       {"Volume Change Reference", 4, binary},
	0x020a:       {"Device Vendor/Serial Number at Last Load", 40, ascii},
	0x020b:       {"Device Vendor/Serial Number at Load-1", 40, ascii},
	0x020c:       {"Device Vendor/Serial Number at Load-2", 40, ascii},
	0x020d:       {"Device Vendor/Serial Number at Load-3", 40, ascii},
	LifeWritten:  {"Total MBytes Written in Medium Life", 8, number},
	LifeRead:     {"Total MBytes Read In Medium Life", 8, number},
	0x0222:       {"Total MBytes Written in Current/Last Load", 8, number},
	0x0223:       {"Total MBytes Read in Current/Last Load", 8, number},
	0x0224:       {"Logical Position of First Encrypted Block", 8, binary},
	0x0225:       {"Logical Position of First Unencrypted Block After the First Encrypted Block", 8, binary},
	0x0340:       {"Medium Usage History", 90, binary},
	0x0341:       {"Partition Usage History", 60, binary},
	0x0400:       {"Medium Manufacturer", 8, ascii},
	Serial:       {"Medium Serial Number", 32, ascii},
	0x0402:       {"Medium Length", 4, number},
	0x0403:       {"Medium Width", 4, number},
	0x0404:       {"Assigning Organization", 8, ascii},
	0x0405:       {"Medium Density Code", 1, binary},
	Manufactured: {"Medium Manufacture Date", 8, ascii},
	0x0407:       {"MAM Capacity", 8, number},
	MediumType:   {"Medium Type", 1, binary},
	0x0409:       {"Medium Type Information", 2, binary},
	0x040a:       {"Numeric Medium Serial Number", 0, binary},
	0x040b:       {"Supported Density Codes", 10, binary},
	Vendor:       {"Application Vendor", 8, ascii},
	Name:         {"Application Name", 32, ascii},
	Version:      {"Application Version", 8, ascii},
	UserLabel:    {"User Medium Text Label", 160, text},
	Written:      {"Date And Time Last Written", 12, ascii},
	TextKind:     {"Text Localization Identifier", 1, binary},
	Barcode:      {"Barcode", 32, ascii},
	Owner:        {"Owning Host Textual Name", 80, text},
	Pool:         {"Media Pool", 160, text},
	0x0809:       {"Partition User Text Label", 16, ascii},
	0x080a:       {"Load/Unload at Partition", 1, binary},
	0x080b:       {"Application Format Version", 16, ascii},
	0x080c:       {"Volume Coherency Information", 0, binary},
	0x0820:       {"Medium Globally Unique Identifier", 36, binary},
	0x0821:       {"Media Pool Globally Unique Identifier", 36, binary},
	0x1000:       {"Unique Cartridge Identity", 28, binary},
	0x1001:       {"Alternate Unique Cartridge Identity", 24, binary},
}
