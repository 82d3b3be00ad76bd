package image

import "golang.org/x/sys/windows"

var mediumErrors = []error{windows.ERROR_CRC, windows.ERROR_SECTOR_NOT_FOUND, windows.ERROR_IO_DEVICE}
