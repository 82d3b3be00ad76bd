//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
)

// blocks is a reader that asks next for more bytes when it runs dry.
type blocks struct {
	rest []byte
	next func(buf []byte) []byte
}

func (b *blocks) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		b.rest = b.next(b.rest[:0])
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

var (
	services = []string{"nginx", "postgres", "sshd", "cron", "kernel", "systemd", "api", "worker"}
	words    = []string{
		"request", "accepted", "connection", "closed", "timeout", "user", "session", "opened", "cache", "miss", "hit",
		"query", "took", "for", "from", "unit", "started", "stopped", "reload", "configuration", "error", "retry",
	}
)

// logLines is an endless log: stamps, few services, a small vocabulary and
// numbers, as text on servers is.
func logLines(seed uint64) io.Reader {
	r := rand.New(rand.NewPCG(seed, 0))
	at := 0
	return &blocks{next: func(buf []byte) []byte {
		for range 64 {
			at += r.IntN(3)
			buf = fmt.Appendf(buf, "Nov %02d %02d:%02d:%02d host %s[%d]:",
				1+at/86400%28, at/3600%24, at/60%60, at%60, services[r.IntN(len(services))], 300+r.IntN(900))
			for range 3 + r.IntN(7) {
				buf = append(append(buf, ' '), words[r.IntN(len(words))]...)
			}
			buf = fmt.Appendf(buf, " id=%08x bytes=%d dur=0.%03d\n", r.Uint32(), r.IntN(1<<16), r.IntN(1000))
		}
		return buf
	}}
}

const pageSize = 16 << 10

// databasePages is an endless row of database pages: a header, records packed
// from the end, free space of zeros between.
func databasePages(seed uint64) io.Reader {
	r := rand.New(rand.NewPCG(seed, 0))
	var number uint64
	return &blocks{next: func([]byte) []byte {
		page := make([]byte, pageSize)
		binary.BigEndian.PutUint64(page, number)
		binary.BigEndian.PutUint64(page[8:], r.Uint64())
		number++
		used := pageSize * (60 + r.IntN(35)) / 100
		for end := pageSize; end > pageSize-used; {
			rec := fmt.Appendf(nil, "%d|%s %s|%s@example.org|%d|%016x", r.IntN(1<<24), words[r.IntN(len(words))],
				words[r.IntN(len(words))], words[r.IntN(len(words))], 1_700_000_000+r.IntN(1<<24), r.Uint64())
			end -= len(rec)
			copy(page[max(end, 64):], rec)
		}
		return page
	}}
}
