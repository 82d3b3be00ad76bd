package archtest

import "strings"

const module = "github.com/holdfast-backup/holdfast/"

// room is a directory and all below it. The longest matching directory
// decides, so an exception is a line of its own.
type room struct {
	dir string
	may string // rooms it may import besides itself, separated by spaces
	std string // standard library packages, with all below, that it must not import
}

// Layers as words, so that a line of the table reads.
const (
	noIO    = "os net log syscall path/filepath io/ioutil golang.org/x/sys"
	noWire  = "net"
	ground  = "internal/cancel internal/digest internal/zero internal/pagebuf internal/cpu internal/throttle internal/zstd"
	formats = ground + " internal/format"
	storage = formats + " internal/kernel internal/vfs internal/chunker internal/retention"
	face    = storage + " internal/repo" // what the pipelines know of a repository: never what holds it
	images  = formats + " internal/kernel internal/image"
	trees   = formats + " internal/kernel internal/chunker internal/exclude internal/filemeta internal/idmap"
	files   = face + " internal/image internal/image/archive internal/filearchive"
	work    = face + " internal/image internal/image/archive internal/backup internal/restore"

	accounts = " internal/access internal/confdir internal/accounts internal/calendar internal/secret" // who uses a server, and what it is told
)

// rooms is the table, from the bottom up.
var rooms = []room{
	{dir: "internal/cpu", std: noIO}, // what this processor can do
	{dir: "internal/zero", std: noIO},
	{dir: "internal/secret", std: noWire}, // where passwords come from
	{dir: "internal/digest", may: "internal/cpu internal/zero", std: noIO},
	{dir: "internal/pagebuf", std: "net log"},                     // buffers outside the Go heap
	{dir: "internal/cancel", std: noIO},                           // what ends with a context
	{dir: "internal/throttle", may: "internal/cancel", std: noIO}, // bytes a second
	{dir: "internal/zstd", std: "os net log path/filepath"},
	{dir: "internal/format", may: "internal/digest internal/zero internal/zstd", std: noIO},
	{dir: "internal/retention", may: "internal/format", std: noIO},
	{dir: "internal/chunker", may: formats, std: noIO},
	{dir: "internal/exclude", std: noIO},                                        // what a backup leaves out
	{dir: "internal/calendar", std: noIO},                                       // when jobs run
	{dir: "internal/property", may: "internal/format", std: noIO},               // what sections of configuration files can say
	{dir: "internal/access", may: "internal/format internal/secret", std: noIO}, // who may do what on a server
	{dir: "internal/kernel"},                                                    // thin shells over system calls
	{dir: "internal/daemon", std: "net/http"},                                   // a command goes to the background
	{dir: "internal/vfs", may: formats + " internal/kernel", std: noWire},
	{dir: "internal/keystore", may: "internal/format internal/vfs", std: noWire},                                         // key files that no crash spoils
	{dir: "internal/confdir", may: "internal/keystore internal/format", std: noWire},                                     // the files of a server's configuration
	{dir: "internal/accounts", may: "internal/access internal/confdir internal/format internal/secret", std: "net/http"}, // who can log in to a server
	{dir: "internal/objstore", may: "internal/cancel", std: "os net"},                                                    // what a bucket can do
	{dir: "internal/objstore/limit", may: "internal/objstore internal/cancel internal/throttle", std: "os"},              // requests at once, bytes a second
	{dir: "internal/objstore/cache", may: "internal/objstore", std: noWire},                                              // objects in a directory
	{dir: "internal/objstore/faulty/front", may: "internal/objstore internal/cancel", std: "os"},                         // an engine's server with faults
	{dir: "internal/objstore/s3", may: "internal/objstore"},
	{dir: "internal/objstore/objtest/gateway", may: "internal/objstore internal/objstore/s3"}, // a real engine for tests
	{dir: "internal/objstore/connect", may: "internal/objstore internal/objstore/limit internal/objstore/cache internal/objstore/s3 internal/throttle"}, // a bucket as commands use it
	{dir: "internal/pamcheck", std: noWire},                                     // one password of one user of this machine
	{dir: "internal/ledger", may: ground + " internal/objstore", std: "os net"}, // one map that many share through a bucket
	{dir: "internal/image", may: images, std: noWire},
	{dir: "internal/kernel/fusefile", may: images, std: "net"}, // an image as a file of the kernel
	{dir: "internal/repo", may: storage, std: noWire},
	{dir: "internal/repo/bucket", may: face + " internal/objstore internal/ledger", std: noWire}, // a repository in a bucket
	{dir: "internal/datastore", may: face, std: noWire},
	{dir: "internal/repo/pbsbucket", may: face + " internal/objstore", std: noWire}, // what a PBS keeps in a bucket
	{dir: "internal/repo/dir", may: face + " internal/datastore", std: noWire},      // a datastore behind the face
	{dir: "internal/image/archive", may: images + " " + face, std: noWire},
	{dir: "internal/filearchive", may: images + " internal/image/archive " + face, std: noWire}, // file archives of snapshots, open
	{dir: "internal/idmap", std: noWire},                                                        // users of a container and of its host
	{dir: "internal/filemeta", may: formats + " internal/kernel internal/idmap", std: noWire},   // what a file system knows of a file
	{dir: "internal/tree", may: trees, std: noWire},                                             // a directory becomes an archive
	{dir: "internal/extract", may: trees, std: noWire},                                          // an archive becomes a directory, tar, zip
	{dir: "internal/browse", may: files + " internal/exclude", std: noWire},                     // names in a snapshot
	{dir: "internal/backup", may: files + " internal/tree internal/exclude internal/filemeta internal/idmap", std: noWire},
	{dir: "internal/restore", may: face + " internal/image", std: noWire},
	{dir: "internal/replicate", may: face, std: noWire},    // snapshots go from one repository to another
	{dir: "internal/backup/amend", may: work, std: noWire}, // a snapshot from another and overlays

	{dir: "internal/proto", may: images},
	{dir: "internal/proto/items", may: face},                       // what calls answer with, as JSON
	{dir: "internal/proto/repoerr", may: face + " internal/proto"}, // errors of a repository on the wire
	{dir: "internal/proto/backupv1", may: face + " internal/proto internal/proto/repoerr"},
	{dir: "internal/proto/readerv1", may: face + " internal/proto internal/proto/repoerr"},
	{dir: "internal/repo/remote", may: face + " internal/secret internal/proto internal/proto/items internal/proto/repoerr internal/proto/backupv1 internal/proto/readerv1"}, // a repository on a server
	{dir: "internal/fsread", may: images, std: noWire},
	{dir: "internal/scsi", may: formats + " internal/kernel"},
	{dir: "internal/scsi/vtl", may: storage + " internal/scsi", std: noWire},            // a virtual tape library
	{dir: "internal/scsi/vtl/share", may: storage + " internal/scsi internal/scsi/vtl"}, // and for several processes
	{dir: "internal/appliance", may: work + " internal/proto internal/kernel/vsock"},
	{dir: "internal/mapping", may: work + " internal/proto internal/kernel/fusefile"},
	{dir: "internal/mount", may: work + " internal/filearchive internal/filemeta"},
	{dir: "internal/guest", may: work + " internal/proto"},
	{dir: "internal/provider", may: work + " internal/proto internal/guest internal/tree internal/exclude internal/kernel/fusefile"}, // what a platform calls
	{dir: "internal/provider/carry", may: work + " internal/provider internal/tree"},                                                 // archives go from one storage to another
	{dir: "internal/provider/repostore", may: work + " internal/provider internal/guest internal/tree internal/filearchive internal/mount"},
	{dir: "internal/provider/dirstore", may: work + " internal/provider internal/provider/carry internal/tree internal/extract internal/exclude internal/filemeta internal/keystore"},
	{dir: "internal/filerestore", may: work + " internal/filearchive internal/filemeta internal/browse internal/extract internal/proto internal/fsread internal/appliance"},
	{dir: "internal/tape", may: work + " internal/scsi internal/keystore internal/confdir internal/calendar internal/property internal/replicate"},
	{dir: "internal/tape/device", may: storage + " internal/scsi internal/scsi/vtl internal/tape"}, // drives and changers as they are configured
	{dir: "internal/volume", may: work},
	{dir: "internal/notify", may: formats + " internal/confdir internal/calendar internal/property"}, // people hear of it
	{dir: "internal/server", may: work + " internal/datastore internal/repo/dir internal/objstore internal/objstore/s3 internal/objstore/limit internal/objstore/cache internal/objstore/connect internal/objstore/objtest/gateway internal/repo/bucket internal/repo/pbsbucket internal/filearchive internal/browse internal/extract internal/replicate internal/proto internal/proto/items internal/proto/repoerr internal/proto/backupv1 internal/proto/readerv1 internal/scsi internal/tape internal/tape/device internal/keystore internal/notify internal/property" + accounts},

	{dir: "internal/ui", may: formats + " internal/retention", std: noWire},
	{dir: "internal/cli", may: "internal"},
	{dir: "internal/archtest"},
	{dir: "cmd", may: "internal/cli internal/ui"},
	{dir: "cmd/holdfast-pam", may: "internal/pamcheck", std: noWire},
	{dir: "cmd/holdfast-tape-key", may: "internal/tape internal/confdir", std: noWire},
	{dir: "bench/page"},
	{dir: "bench/program", may: "bench/page"},
	{dir: "bench", may: "bench/page bench/program"},
	{dir: "bench/serve", may: "bench bench/page bench/program internal/repo internal/repo/dir internal/format"},
	{dir: "bench/server", may: "bench bench/page bench/program internal/backup internal/secret internal/format internal/repo internal/repo/remote"},
	{dir: "bench/tape", may: "bench bench/page bench/program internal/tape internal/format internal/digest internal/repo internal/repo/dir internal/datastore"},
	{dir: "bench/guest", may: "bench bench/page bench/program internal/appliance"},
	{dir: "bench/files", may: "bench bench/page bench/program internal/filerestore internal/filerestore/direct internal/image/archive internal/repo/dir internal/format"},
	{dir: "bench/volume", may: "bench bench/page bench/program"},
	{dir: "bench/collection", may: "bench bench/page bench/program internal/objstore internal/repo/bucket"},
	{dir: "bench/bucket", may: "bench bench/page bench/program internal/proto internal/objstore/objtest/gateway"},
	{dir: "test", may: "internal"},
}

// owners names the only rooms that may import a library, with its reason.
var owners = []struct{ library, rooms, why string }{
	{"github.com/klauspost/compress", "internal/zstd", "one wrapper decides the encoder"},
	{"github.com/DataDog/zstd", "internal/zstd", "one wrapper decides the encoder"},
	{"github.com/dchest/siphash", "internal/format/pxar", "it is the hash of one format"},
	{"github.com/spf13/cobra", "internal/cli internal/ui", "arguments are parsed in one room"},
	{"github.com/spf13/pflag", "internal/cli internal/ui", "arguments are parsed in one room"},
	{"github.com/vbauerster/mpb", "internal/cli internal/ui", "progress bars can be replaced"},
	{"github.com/hanwen/go-fuse", "internal/kernel internal/mount internal/mapping bench/tree", "FUSE is a kernel feature"},
	{"github.com/mdlayher/genetlink", "internal/kernel/nbdattach", "the kernel's NBD client is configured in one room"},
	{"github.com/mdlayher/netlink", "internal/kernel/nbdattach", "the kernel's NBD client is configured in one room"},
	{"github.com/u-root/u-root", "internal/appliance", "an initramfs is the appliance's"},
	{"github.com/ulikunitz/xz", "internal/appliance internal/fsread/squashfs", "kernels come in packages, blocks of squashfs are compressed"},
	{"github.com/xi2/xz", "internal/fsread/squashfs", "it is the one that knows the filters of XZ"},
	{"github.com/coreos/go-systemd", "internal/daemon", "one room talks to the service manager"},
	{"github.com/mailgun/raymond", "internal/notify", "templates of webhooks are those of PBS"},
	{"github.com/prometheus", "internal/server/metrics", "one room knows how figures are asked for"},
	{"github.com/go-crypt/x", "internal/access/passwd", "one room knows how passwords are kept"},
	{"go.yaml.in/yaml", "internal/idmap", "containers are configured in YAML"},
	{"github.com/ncruces/go-strftime", "internal/tape/media", "media sets are named by templates of strftime"},
	{"github.com/minio/minio-go", "internal/objstore/s3 internal/objstore/objtest/gateway", "one room speaks S3; another makes buckets for tests"},
	{"github.com/johannesboyne/gofakes3", "internal/objstore internal/server", "an engine of object stores in tests"},
	{"github.com/tidwall/btree", "internal/ledger", "copies that share what they have in common are the ledger's"},
	{"github.com/digitalocean/go-libvirt", "internal/guest", "libvirt is a kind of guest"},
	{"github.com/google/uuid", "internal/format internal/tape internal/cli internal/server bench/tape", "tapes and media sets are named by UUIDs"},
	{"github.com/beevik/etree", "internal/guest/libvirt", "definitions of domains are changed, and kept otherwise"},
}

// roomOf returns the room that a directory below the root belongs to.
func roomOf(dir string) (best room, ok bool) {
	for _, r := range rooms {
		if within(dir, r.dir) && len(r.dir) > len(best.dir) {
			best, ok = r, true
		}
	}
	return best, ok
}

// within reports whether name is dir or lies below it.
func within(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, dir+"/")
}

func withinAny(name, dirs string) bool {
	for d := range strings.FieldsSeq(dirs) {
		if within(name, d) {
			return true
		}
	}
	return false
}
