package keysvc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/sg"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/drivecrypt"
)

const requestTime = 10 * time.Second // for a client to say what it wants

// Service puts keys into drives.
type Service struct {
	Keys  tape.Keys
	Users []uint32 // who is served besides root
	Log   *slog.Logger
}

// Serve answers one connection, which belongs to the caller. The error is one
// of the connection: what the client asked for and did not get, it was told.
func (s Service) Serve(ctx context.Context, conn *net.UnixConn) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	peer, err := peerOf(conn)
	if err != nil {
		return fmt.Errorf("find out who asks: %w", err)
	}
	what, err := s.handle(ctx, conn, peer)
	log := s.Log.With("user", peer.Uid, "process", peer.Pid, "request", what)
	if err != nil {
		log.Warn("refused or failed", "error", err)
	} else {
		log.Info("done")
	}
	_, err = conn.Write(appendAnswer(nil, err))
	return err
}

// handle does what a client wants.
func (s Service) handle(ctx context.Context, conn *net.UnixConn, peer *unix.Ucred) (what string, err error) {
	// Who is refused, too: what nobody has read would take the answer with it.
	line, node, err := receive(conn)
	if err != nil {
		return "", err
	}
	defer func() { _ = node.Close() }()
	if peer.Uid != 0 && !slices.Contains(s.Users, peer.Uid) {
		return "", fmt.Errorf("user %d is %w", peer.Uid, ErrDenied)
	}
	k, err := parseRequest(line)
	if err != nil {
		return "", err
	}
	if k == nil {
		return opClear, s.use(ctx, node, nil)
	}
	return opSet + " " + k.Fingerprint.Short() + " for " + k.MediaSet.String(), s.use(ctx, node, k)
}

// use sets or clears the key of the drive that a descriptor is.
func (s Service) use(ctx context.Context, node *os.File, k *tape.KeyOf) error {
	d, err := sg.FromFile(node)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	id, err := scsi.Identify(d)
	if err != nil {
		return err
	}
	if id.Type != scsi.TypeTape {
		return fmt.Errorf("the device is no tape drive but a %s", id.Type)
	}
	if k == nil {
		return drivecrypt.Clear(d)
	}
	return drivecrypt.Local{Keys: s.Keys}.SetKey(ctx, d, *k)
}

// peerOf asks the kernel who connected.
func peerOf(conn *net.UnixConn) (peer *unix.Ucred, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	cerr := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	return peer, errors.Join(cerr, err)
}

// receive reads a request and the descriptor that comes with it.
func receive(conn *net.UnixConn) (line []byte, node *os.File, err error) {
	if err := conn.SetReadDeadline(time.Now().Add(requestTime)); err != nil {
		return nil, nil, err
	}
	var files []*os.File
	defer func() {
		if err != nil {
			closeAll(files)
		}
	}()
	for !bytes.HasSuffix(line, []byte("\n")) {
		part, more, err := receivePart(conn)
		files = append(files, more...)
		if err != nil {
			return nil, nil, err
		}
		if len(part) == 0 {
			return nil, nil, errors.New("a request that has no end")
		}
		if line = append(line, part...); len(line) > maxLine {
			return nil, nil, errors.New("a request that is too long")
		}
	}
	if len(files) != 1 {
		return nil, nil, fmt.Errorf("%d descriptors came with the request, it must be that of the drive", len(files))
	}
	return line, files[0], nil
}

// receivePart reads what is there.
func receivePart(conn *net.UnixConn) ([]byte, []*os.File, error) {
	b, oob := make([]byte, maxLine), make([]byte, unix.CmsgSpace(4*4))
	n, oobn, flags, _, err := conn.ReadMsgUnix(b, oob)
	if err != nil {
		return nil, nil, err
	}
	files, err := descriptors(oob[:oobn])
	if err == nil && flags&unix.MSG_CTRUNC != 0 {
		err = errors.New("too many descriptors came with the request")
	}
	return b[:n], files, err
}

// descriptors takes the descriptors out of control messages.
func descriptors(oob []byte) (files []*os.File, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue // another kind of message
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "the descriptor of the client"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
