//go:build linux

// Writer writes to the disks of a guest so that any copy of them can be judged.
//
//	writer write SECONDS FIRST SECOND DIR    writes until the time is over
//	writer check FIRST SECOND                judges two disks at one moment
//	writer latency SECONDS DISK MIB          writes 4096 bytes at random places of the first MIB
//
// # Records
//
// A record of 4096 bytes has its number (8 bytes, little-endian, from 1), other
// bytes that follow from it, and the SHA-256 of all that. Record n goes to place
// n modulo the number of places of the first disk, and when it is durable there,
// to the same place of the second. So at any moment the first disk has every
// one of the last records up to some n, and the second up to n or n-1: disks that
// were copied at different moments fail that.
//
// # Files
//
// Meanwhile files of random size are written into DIR and synced; only then the
// line of their checksum is added to DIR/sums, in the form of sha256sum. Every
// line of any copy must hold.
//
// Now and then a range of the first disk's second half, where no records are, is
// filled and then discarded.
//
// At the end the latencies of the writes are printed: their number, then the mean,
// the median, the 95th and 99th percentile and the longest, in microseconds.
// Those of records are durable, those of latency are what the disk's cache takes.
package main

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	size   = 4096
	places = 1024
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "writer:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 5 && args[0] == "write":
		seconds, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		return write(time.Duration(seconds)*time.Second, args[2], args[3], args[4])
	case len(args) == 3 && args[0] == "check":
		return check(args[1], args[2])
	case len(args) == 4 && args[0] == "latency":
		seconds, err := strconv.Atoi(args[1])
		span, err2 := strconv.Atoi(args[3])
		if err = errors.Join(err, err2); err != nil {
			return err
		}
		return latency(time.Duration(seconds)*time.Second, args[2], int64(span)<<20)
	}
	return errors.New("usage: writer write SECONDS FIRST SECOND DIR | writer check FIRST SECOND | writer latency SECONDS DISK MIB")
}

// record fills b with the n-th.
func record(b []byte, n uint64) {
	r := rand.New(rand.NewPCG(n, 0))
	for i := 0; i < size-32; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
	binary.LittleEndian.PutUint64(b, n)
	sum := sha256.Sum256(b[:size-32])
	copy(b[size-32:], sum[:])
}

// openDisk opens a disk so that every write goes to it at once.
func openDisk(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_RDWR|unix.O_DIRECT|unix.O_DSYNC, 0)
}

func write(d time.Duration, first, second, dir string) error {
	var disks [2]*os.File
	for i, name := range []string{first, second} {
		f, err := openDisk(name)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		disks[i] = f
	}
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // aligned
	if err != nil {
		return err
	}
	sums, err := os.OpenFile(filepath.Join(dir, "sums"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = sums.Close() }()
	var took []time.Duration
	n := newest(disks[0])
	for end := time.Now().Add(d); time.Now().Before(end); {
		n++
		record(b, n)
		for _, f := range disks {
			begin := time.Now()
			if _, err := f.WriteAt(b, int64(n%places)*size); err != nil {
				return err
			}
			took = append(took, time.Since(begin))
		}
		if n%64 == 0 {
			if err := file(dir, n, sums); err != nil {
				return err
			}
		}
		if n%256 == 0 {
			if err := discard(disks[0]); err != nil {
				return err
			}
		}
	}
	report(took)
	return nil
}

// latency writes at random for a while.
func latency(d time.Duration, disk string, span int64) error {
	f, err := os.OpenFile(disk, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	var took []time.Duration
	for end := time.Now().Add(d); time.Now().Before(end); {
		binary.LittleEndian.PutUint64(b, rand.Uint64())
		begin := time.Now()
		if _, err := f.WriteAt(b, rand.Int64N(span/size)*size); err != nil {
			return err
		}
		took = append(took, time.Since(begin))
	}
	report(took)
	return nil
}

func report(took []time.Duration) {
	slices.Sort(took)
	var sum time.Duration
	for _, t := range took {
		sum += t
	}
	at := func(p int) int64 { return took[min(len(took)*p/100, len(took)-1)].Microseconds() }
	fmt.Println(len(took), (sum / time.Duration(max(len(took), 1))).Microseconds(), at(50), at(95), at(99), at(100))
}

// file writes one and then its line.
func file(dir string, n uint64, sums *os.File) error {
	b := make([]byte, 1+rand.IntN(200_000))
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	name := fmt.Sprintf("%d", n)
	f, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(sums, "%x  %s\n", sha256.Sum256(b), name); err != nil {
		return err
	}
	return sums.Sync()
}

// discard fills a range behind the records and gives it up again.
func discard(f *os.File) error {
	const behind = places * size
	b, err := unix.Mmap(-1, 0, 64<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(b) }()
	for i := range b {
		b[i] = 0xdd
	}
	off := behind + int64(rand.IntN(64))*int64(len(b))
	if _, err := f.WriteAt(b, off); err != nil {
		return err
	}
	return ioctlRange(f, unix.BLKDISCARD, off, int64(len(b)))
}

// newest is the highest number on a disk.
func newest(f *os.File) uint64 {
	all, err := read(f)
	if err != nil {
		return 0
	}
	return slices.Max(all)
}

// read returns the numbers of all places, 0 where nothing was written.
func read(f *os.File) ([]uint64, error) {
	all := make([]uint64, places)
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, err
	}
	want := make([]byte, size)
	for i := range all {
		if _, err := f.ReadAt(b, int64(i)*size); err != nil {
			return nil, err
		}
		n := binary.LittleEndian.Uint64(b)
		if n == 0 {
			continue
		}
		if record(want, n); !slices.Equal(b, want) {
			return nil, fmt.Errorf("%s: place %d has a record %d that is torn", f.Name(), i, n)
		}
		all[i] = n
	}
	return all, nil
}

func check(first, second string) error {
	var last [2]uint64
	for i, name := range []string{first, second} {
		f, err := os.OpenFile(name, os.O_RDONLY|unix.O_DIRECT, 0)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		all, err := read(f)
		if err != nil {
			return err
		}
		last[i] = slices.Max(all)
		for n := last[i]; n > 0 && n+places > last[i]; n-- {
			if all[n%places] != n {
				return fmt.Errorf("%s has record %d and not %d, but %d", name, last[i], n, all[n%places])
			}
		}
	}
	if last[0] != last[1] && last[0] != last[1]+1 {
		return fmt.Errorf("%s has record %d when %s has %d: they are of different moments", first, last[0], second, last[1])
	}
	fmt.Println(last[0])
	return nil
}
