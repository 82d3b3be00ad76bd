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
	"time"
)

// plainTLS sends n bytes over one TLS connection on the loopback, from memory to
// nowhere, and returns the seconds that took. One core encrypts and another one
// decrypts.
func plainTLS(n int64) (seconds float64, err error) {
	conf, err := selfSigned()
	if err != nil {
		return 0, err
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", conf)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	sent := make(chan error, 1)
	go func() { sent <- send(l, n) }()
	c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	got, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 1<<20))
	seconds = time.Since(begin).Seconds()
	if got != n {
		err = errors.Join(err, io.ErrUnexpectedEOF)
	}
	return seconds, errors.Join(err, c.Close(), <-sent)
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
