//go:build linux

package inside

import (
	"context"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/image/source"
	"github.com/holdfast-backup/holdfast/internal/kernel/fusefile"
	"github.com/holdfast-backup/holdfast/internal/kernel/loop"
	"github.com/holdfast-backup/holdfast/internal/kernel/nbdattach"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd/nbdserver"
)

func TestPartitionsOfALoopDevice(t *testing.T) {
	for _, d := range disks {
		t.Run(d.node, func(t *testing.T) {
			f, err := os.Open(d.node)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			dev, err := loop.Attach(limit(t), int(f.Fd()), loop.Options{
				ReadOnly: true, AutoClear: true, PartScan: true, Number: loop.AnyNumber,
			})
			if err != nil {
				t.Fatal(err)
			}
			checkPartitions(t, dev.Path(), d.partitions)
			if err := dev.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPartitionsOfALoopDeviceOverFUSE(t *testing.T) {
	for _, d := range disks {
		t.Run(d.node, func(t *testing.T) {
			dev, file, err := attachLoop(limit(t), openDisk(t, d.node))
			if err != nil {
				t.Fatal(err)
			}
			checkPartitions(t, dev.Path(), d.partitions)
			if err := dev.Close(); err != nil {
				t.Error(err)
			}
			select {
			case <-file.Done():
			case <-limit(t).Done():
				t.Error("the file system outlives the device")
			}
		})
	}
}

func TestPartitionsOfAnNBDDevice(t *testing.T) {
	for _, d := range disks {
		t.Run(d.node, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			dev, served, err := attachNBD(ctx, openDisk(t, d.node))
			if err != nil {
				t.Fatal(err)
			}
			checkPartitions(t, dev.Path(), d.partitions)
			if err := dev.Detach(limit(t)); err != nil {
				t.Error(err)
			}
			served.Wait()
		})
	}
}

func openDisk(t *testing.T, node string) image.Image {
	t.Helper()
	img, err := source.Open(node, source.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = img.Close() })
	return img
}

// attachLoop shows an image as a file and that as a loop device.
func attachLoop(ctx context.Context, img image.Image) (*loop.Device, *fusefile.File, error) {
	file, err := fusefile.Anonymous(img, fusefile.Options{Name: "inside", ReadOnly: true})
	if err != nil {
		return nil, nil, err
	}
	fd, err := file.Open()
	if err != nil {
		return nil, nil, err
	}
	dev, err := loop.Attach(ctx, fd, loop.Options{ReadOnly: true, AutoClear: true, PartScan: true, Number: loop.AnyNumber})
	_ = unix.Close(fd)
	file.Release()
	return dev, file, err
}

// attachNBD hands a socket to the kernel and serves the image on its other end.
func attachNBD(ctx context.Context, img image.Image) (*nbdattach.Device, *sync.WaitGroup, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	ours := os.NewFile(uintptr(fds[0]), "nbd")
	conn, err := net.FileConn(ours)
	_ = ours.Close()
	if err != nil {
		return nil, nil, err
	}
	export := &nbdserver.Export{Image: img, ReadOnly: true, Align: 512}
	var served sync.WaitGroup
	served.Go(func() { _ = nbdserver.New(nbdserver.Options{}).ServeTransmission(ctx, conn, export) })
	dev, err := nbdattach.Attach(ctx, nbdattach.Options{
		Index: nbdattach.AnyIndex, Size: img.Size(), BlockSize: 512, Timeout: 30 * time.Second,
		Flags: nbdattach.HasFlags | nbdattach.ReadOnly, Sockets: []int{fds[1]}, Identifier: "inside",
	})
	_ = unix.Close(fds[1])
	if err != nil {
		_ = conn.Close()
		served.Wait()
	}
	return dev, &served, err
}
