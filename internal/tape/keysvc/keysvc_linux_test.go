package keysvc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/tape"
)

var (
	testFingerprint = chunkcrypt.Fingerprint{1, 2, 3}
	testSet         = uuid.MustParse("9da37a55-aac7-4deb-91c6-482b3b675f30")
)

// node is a transport whose node is any file.
type node struct{ f *os.File }

func (n node) Do(scsi.Command) (int, error) { return 0, errors.New("no command is expected") }
func (n node) Close() error                 { return nil }
func (n node) File() *os.File               { return n.f }

// noKeys says why there are none.
type noKeys struct{ err error }

func (n noKeys) DataKey(tape.KeyOf) (tape.DataKey, error) { return tape.DataKey{}, n.err }

// serveOne runs the service for one connection.
func serveOne(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		s := Service{Keys: noKeys{repo.ErrNotFound}, Users: []uint32{uint32(os.Getuid())}, Log: slog.New(slog.DiscardHandler)}
		_ = s.Serve(t.Context(), conn.(*net.UnixConn)) // the client sees what became of it
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return path
}

func TestADescriptorThatIsNoDriveIsRefused(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	for want, f := range map[string]*os.File{"not the node of a SCSI device": file, "major number is 1": null} {
		err := Client{Path: serveOne(t)}.SetKey(t.Context(), node{f}, tape.KeyOf{Fingerprint: testFingerprint, MediaSet: testSet})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("err = %v, want %q", err, want)
		}
		_ = f.Close()
	}
}

func TestADriveWithoutANodeIsNotForTheService(t *testing.T) {
	err := Client{Path: "/nowhere"}.SetKey(t.Context(), struct{ scsi.Transport }{}, tape.KeyOf{})
	if !errors.Is(err, tape.ErrUnsupported) {
		t.Fatalf("err = %v", err)
	}
}

func TestRequestsThatAreNoneAreRefused(t *testing.T) {
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	for name, tc := range map[string]struct {
		line string
		fds  int
		want string
	}{
		"no descriptor":    {`{"op":"clear"}` + "\n", 0, "0 descriptors"},
		"two descriptors":  {`{"op":"clear"}` + "\n", 2, "2 descriptors"},
		"many descriptors": {`{"op":"clear"}` + "\n", 9, "too many descriptors"},
		"no JSON":          {"clear\n", 1, "cannot be read"},
		"another request":  {`{"op":"read"}` + "\n", 1, "neither to set a key nor to clear"},
		"half a key":       {`{"op":"set","media-set":"` + testSet.String() + `"}` + "\n", 1, "neither to set"},
		"another field":    {`{"op":"clear","device":"/dev/sda"}` + "\n", 1, "unknown field"},
		"no end":           {`{"op":"clear"}`, 1, "EOF"},
		"too long":         {strings.Repeat(" ", maxLine) + "\n", 1, "too long"},
	} {
		conn, err := net.Dial("unix", serveOne(t))
		if err != nil {
			t.Fatal(err)
		}
		c := conn.(*net.UnixConn)
		var oob []byte
		if tc.fds > 0 {
			oob = unix.UnixRights(repeated(tc.fds, int(null.Fd()))...)
		}
		if _, _, err := c.WriteMsgUnix([]byte(tc.line), oob, nil); err != nil {
			t.Fatal(err)
		}
		_ = c.CloseWrite()
		answer, _ := io.ReadAll(conn) // with an error of the connection there may be an answer
		if !strings.Contains(string(answer), tc.want) || !strings.Contains(string(answer), `"Err"`) {
			t.Errorf("%s: %s, want %q", name, answer, tc.want)
		}
		_ = conn.Close()
	}
}

func repeated(n, value int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = value
	}
	return out
}

func TestAnswersAreUnderstood(t *testing.T) {
	if err := parseAnswer(appendAnswer(nil, nil)); err != nil {
		t.Errorf("done became %v", err)
	}
	for _, want := range []error{repo.ErrNotFound, tape.ErrUnsupported, ErrDenied} {
		if err := parseAnswer(appendAnswer(nil, want)); !errors.Is(err, want) {
			t.Errorf("%v became %v", want, err)
		}
	}
	if err := parseAnswer(appendAnswer(nil, errors.New(strings.Repeat("\x00", 9999)))); err == nil {
		t.Error("a long error became none")
	}
	for _, line := range []string{"", "{}", "null", "[]", `{"Ok":`, `{"Err":5}`} {
		if parseAnswer([]byte(line)) == nil {
			t.Errorf("%q was taken for a success", line)
		}
	}
}

func TestTheCommandOfPBSAnswersInJSON(t *testing.T) {
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	known := "--fingerprint=" + testFingerprint.String()
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"--stdin"}, "not a generic SCSI node"},
		{[]string{"--device", "/dev/null"}, "not a generic SCSI node"},
		{[]string{"--stdin", "--device", "/dev/null"}, "either --stdin or --device"},
		{[]string{}, "either --stdin or --device"},
		{[]string{"--stdin", known}, "go together"},
		{[]string{"--stdin", known, "--uuid", "x"}, "--uuid"},
		{[]string{"--stdin", known, "--uuid", testSet.String()}, "not a generic SCSI node"},
	} {
		var out bytes.Buffer
		e := Env{Stdin: null, Stdout: &out, Keys: func(string) tape.Keys { return noKeys{} }}
		if err := e.Main(context.Background(), append([]string{"encryption"}, tc.args...)); err != nil {
			t.Errorf("%q: %v", tc.args, err)
		}
		if s := out.String(); !strings.HasPrefix(s, "{\n  \"Err\": \"") || !strings.Contains(s, tc.want) {
			t.Errorf("%q: %s, want %q", tc.args, s, tc.want)
		}
	}
	var out bytes.Buffer
	if err := (Env{Stdout: &out}).answer(nil); err != nil || out.String() != "{\n  \"Ok\": null\n}\n" {
		t.Errorf("success is %s, %v", &out, err)
	}
	for _, args := range [][]string{nil, {"status"}, {"encryption", "x"}, {"encryption", "--drive", "x"}, {"serve", "--keys"}} {
		if err := (Env{Stdin: null, Stdout: &out}).Main(context.Background(), args); err == nil || !strings.Contains(err.Error(), "usage:") {
			t.Errorf("%q: %v", args, err)
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"op":"set","fingerprint":"` + testFingerprint.String() + `","media-set":"` + testSet.String() + `"}`))
	f.Add([]byte(`{"op":"clear"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		_, _ = parseRequest(line)
		if err := parseAnswer(line); err == nil && !json.Valid(line) {
			t.Fatalf("%q was taken for a success", line)
		}
	})
}

func TestTheServiceIsAskedForKeysThatCannotBeReadHere(t *testing.T) {
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	k := tape.KeyOf{Fingerprint: testFingerprint, MediaSet: testSet}
	for _, tc := range []struct {
		name, path string
		keys       error
		want       string
	}{
		{"unknown keys are not asked for", "/nowhere", repo.ErrNotFound, "not found"},
		{"without a service it is said why", "/nowhere", fs.ErrPermission, "permission denied"},
		{"the service is asked", serveOne(t), fs.ErrPermission, "not a generic SCSI node"}, // what it says of /dev/null
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := Encrypter{Keys: noKeys{tc.keys}, Service: Client{Path: tc.path}}
			if err := e.SetKey(t.Context(), node{null}, k); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("err = %v, want %q", err, tc.want)
			}
		})
	}
}
