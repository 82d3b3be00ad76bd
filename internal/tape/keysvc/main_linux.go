package keysvc

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/user"
	"strconv"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/scsi/sg"
	"github.com/holdfast-backup/holdfast/internal/tape"
)

const (
	configDir = "/etc/proxmox-backup"
	usage     = `usage: holdfast-tape-key serve [--config DIR] [--user NAME]
          standard input is a connection of a client
       holdfast-tape-key encryption [--config DIR] [--fingerprint FINGERPRINT --uuid MEDIA-SET] --stdin|--device PATH
          sets or clears the key of a drive`
)

// Env is what the program runs in.
type Env struct {
	Stdin  *os.File
	Stdout io.Writer
	Stderr io.Writer
	// Keys are those in a directory with the file of tape keys.
	Keys func(dir string) tape.Keys
}

// Main is the program holdfast-tape-key.
func (e Env) Main(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	f := flag.NewFlagSet(args[0], flag.ContinueOnError)
	f.SetOutput(io.Discard)
	config := f.String("config", "", "")
	switch args[0] {
	case "serve":
		name := f.String("user", "backup", "")
		if err := parse(f, args[1:]); err != nil {
			return err
		}
		return e.serve(ctx, *config, *name)
	case "encryption":
		fingerprint, set := f.String("fingerprint", "", ""), f.String("uuid", "", "")
		stdin, device := f.Bool("stdin", false, ""), f.String("device", "", "")
		if err := parse(f, args[1:]); err != nil {
			return err
		}
		// Setuid, the program of a stranger: nothing but names from him.
		if setuid := os.Getuid() != os.Geteuid() || os.Getgid() != os.Getegid(); setuid {
			if err := checkCaller(*stdin && *device == "" && *config == ""); err != nil {
				return err
			}
		}
		return e.answer(e.encryption(ctx, *config, *fingerprint, *set, *stdin, *device))
	}
	return errors.New(usage)
}

func parse(f *flag.FlagSet, args []string) error {
	if err := f.Parse(args); err != nil {
		return fmt.Errorf("%w\n%s", err, usage)
	}
	if f.NArg() > 0 {
		return errors.New(usage)
	}
	return nil
}

// checkCaller sees to it that only PBS's own user makes use of a program with
// more rights than his.
func checkCaller(plain bool) error {
	os.Clearenv()
	if !plain {
		return errors.New("with the rights of another user it only takes --stdin, and the file of keys that it has")
	}
	u, err := user.Lookup("backup")
	if err != nil {
		return err
	}
	if os.Getuid() != 0 && (u.Uid != strconv.Itoa(os.Getuid()) || u.Gid != strconv.Itoa(os.Getgid())) {
		return fmt.Errorf("user %d is %w", os.Getuid(), ErrDenied)
	}
	return nil
}

// keys are those in a directory that is named, the service manager's, or PBS's.
func (e Env) keys(dir string) tape.Keys {
	if dir == "" {
		dir = os.Getenv("CREDENTIALS_DIRECTORY")
	}
	if dir == "" {
		dir = configDir
	}
	return e.Keys(dir)
}

// serve answers the client that is standard input.
func (e Env) serve(ctx context.Context, dir, name string) error {
	u, err := user.Lookup(name)
	if err != nil {
		return err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return err
	}
	c, err := net.FileConn(e.Stdin)
	if err != nil {
		return fmt.Errorf("standard input is no connection: %w", err)
	}
	defer func() { _ = c.Close() }()
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return errors.New("standard input is no Unix socket")
	}
	log := slog.New(slog.NewTextHandler(e.Stderr, nil))
	return Service{Keys: e.keys(dir), Users: []uint32{uint32(uid)}, Log: log}.Serve(ctx, conn)
}

// encryption is the command of PBS.
func (e Env) encryption(ctx context.Context, dir, fingerprint, set string, stdin bool, device string) error {
	var k *tape.KeyOf
	switch {
	case stdin == (device != ""):
		return errors.New("the drive is either --stdin or --device PATH")
	case (fingerprint == "") != (set == ""):
		return errors.New("--fingerprint and --uuid go together")
	case fingerprint != "":
		k = &tape.KeyOf{}
		var err error
		if k.Fingerprint, err = chunkcrypt.ParseFingerprint(fingerprint); err != nil {
			return err
		}
		if k.MediaSet, err = uuid.Parse(set); err != nil {
			return fmt.Errorf("--uuid: %w", err)
		}
	}
	node := e.Stdin
	if device != "" {
		d, err := sg.Open(device)
		if err != nil {
			return err
		}
		node = d.File()
		defer func() { _ = d.Close() }()
	}
	return Service{Keys: e.keys(dir)}.use(ctx, node, k)
}

// answer prints an outcome as PBS's program does. It has been told then, and
// is no failure.
func (e Env) answer(err error) error {
	var out any = map[string]any{"Ok": nil}
	if err != nil {
		out = map[string]any{"Err": err.Error()}
	}
	b, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(e.Stdout, "%s\n", b)
	return err
}
