package image

import "golang.org/x/sys/unix"

// mediumErrors is what Linux returns for medium, protection and transport
// failures of a read (block/blk-core.c, blk_errors).
var mediumErrors = []error{unix.EIO, unix.ENODATA, unix.EILSEQ, unix.EREMOTEIO}
