//go:build linux

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"syscall"
	"time"

	"github.com/holdfast-backup/holdfast/bench/measure"
)

// plainTLS sends n bytes over one TLS connection on the loopback, from memory to
// nowhere, and returns what that took, both ends together. One core encrypts and
// another one decrypts.
func plainTLS(n int64) (used measure.Cost, err error) {
	conf, err := selfSigned()
	if err != nil {
		return used, err
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", conf)
	if err != nil {
		return used, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	sent := make(chan error, 1)
	go func() { sent <- send(l, n) }()
	c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
	if err != nil {
		return used, err
	}
	begin, before := time.Now(), processor()
	got, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 1<<20))
	used.Seconds, used.CPU = time.Since(begin).Seconds(), processor()-before
	if got != n {
		err = errors.Join(err, io.ErrUnexpectedEOF)
	}
	return used, errors.Join(err, c.Close(), <-sent)
}

// processor is how many seconds of processor time this process has had.
func processor() float64 {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r) // cannot fail
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()).Seconds()
}

// send sends n zeros to who comes first.
func send(l net.Listener, n int64) error {
	c, err := l.Accept()
	if err != nil {
		return err
	}
	for buf := make([]byte, 1<<20); n > 0 && err == nil; n -= int64(len(buf)) {
		_, err = c.Write(buf[:min(n, int64(len(buf)))])
	}
	return errors.Join(err, c.Close())
}

func selfSigned() (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS13}, nil
}
