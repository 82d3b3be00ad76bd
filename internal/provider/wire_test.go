package provider_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/provider"
)

// caller is the other end of a service.
type caller struct {
	t      *testing.T
	to     io.WriteCloser
	from   *bufio.Scanner
	ended  chan error
	store  *fake
	closed bool
}

func dial(t *testing.T, store *fake) *caller {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	c := &caller{t: t, to: inW, from: bufio.NewScanner(outR), ended: make(chan error, 1), store: store}
	s := provider.New(store, provider.Options{PIDFile: func(int) string { return "/nowhere" }})
	go func() {
		c.ended <- s.Serve(context.WithoutCancel(t.Context()), "test", inR, outW)
		_ = outW.Close()
	}()
	t.Cleanup(func() { c.close() })
	if hello := c.line(); hello["holdfast-provider"] != 1.0 || !slices.Contains(hello["calls"].([]any), any("backup_vm")) {
		t.Fatalf("greeting %v", hello)
	}
	return c
}

func (c *caller) send(line string) {
	c.t.Helper()
	if _, err := io.WriteString(c.to, line+"\n"); err != nil {
		c.t.Fatal(err)
	}
}

func (c *caller) line() (v map[string]any) {
	c.t.Helper()
	if !c.from.Scan() {
		c.t.Fatal("the service has ended")
	}
	if err := json.Unmarshal(c.from.Bytes(), &v); err != nil {
		c.t.Fatal(err)
	}
	return v
}

// answer is the next line that is no log.
func (c *caller) answer() map[string]any {
	c.t.Helper()
	for {
		if v := c.line(); v["log"] == nil {
			return v
		}
	}
}

func (c *caller) close() {
	if c.closed {
		return
	}
	c.closed = true
	_ = c.to.Close()
	for c.from.Scan() {
	}
	if err := <-c.ended; err != nil {
		c.t.Error(err)
	}
}

func (c *caller) call(line string) map[string]any {
	c.t.Helper()
	c.send(line)
	return c.answer()
}

func kind(answer map[string]any) any {
	e, _ := answer["error"].(map[string]any)
	return e["kind"]
}

func TestWhatMakesNoSenseIsAUsageError(t *testing.T) {
	c := dial(t, newFake())
	for _, tc := range []struct{ name, line string }{
		{"no JSON", `{"id":`},
		{"a list", `[1]`},
		{"two values", `{"id":1,"call":"job_init"} {}`},
		{"unknown key", `{"id":1,"call":"job_init","more":1}`},
		{"unknown call", `{"id":1,"call":"format_disk"}`},
		{"no call", `{"id":1}`},
		{"unknown argument", `{"id":1,"call":"backup_init","args":{"vmid":1,"vmtype":"qemu","starttime":1}}`},
		{"wrong type", `{"id":1,"call":"backup_init","args":{"vmid":"1","vmtype":"qemu"}}`},
		{"wrong kind of guest", `{"id":1,"call":"backup_init","args":{"vmid":1,"vmtype":"kvm"}}`},
		{"guest 0", `{"id":1,"call":"backup_init","args":{"vmid":0,"vmtype":"qemu"}}`},
		{"no backup_init", `{"id":1,"call":"backup_vm","args":{"vmid":1}}`},
		{"archive of another guest", `{"id":1,"call":"backup_vm","args":{"vmid":1,"archive-name":"2/qemu-5"}}`},
		{"no archive", `{"id":1,"call":"storage_get","args":{"volname":"../x"}}`},
		{"nothing to keep", `{"id":1,"call":"storage_prune","args":{"keep":{}}}`},
		{"below zero", `{"id":1,"call":"storage_prune","args":{"keep":{"keep-last":-1}}}`},
		{"no truth", `{"id":1,"call":"storage_prune","args":{"keep":{"keep-all":"perhaps"}}}`},
		{"no disks", `{"id":1,"call":"backup_vm","args":{"vmid":1,"archive-name":"1/qemu-5","guest-config":"x"}}`},
		{"a path as a disk's name", `{"id":1,"call":"backup_vm","args":{"vmid":1,"archive-name":"1/qemu-5","guest-config":"x","volumes":{"../x":{"size":1,"path":"/dev/null"}}}}`},
		{"two ways to a disk", `{"id":1,"call":"backup_vm","args":{"vmid":1,"archive-name":"1/qemu-5","guest-config":"x","volumes":{"d":{"size":1,"path":"/dev/null","nbd-path":"/x"}}}}`},
		{"reuse without regions", `{"id":1,"call":"backup_vm","args":{"vmid":1,"archive-name":"1/qemu-5","guest-config":"x","volumes":{"d":{"size":1,"path":"/dev/null","bitmap-mode":"reuse"}}}}`},
		{"walkers that cannot report", `{"id":1,"call":"backup_container_prepare","args":{"vmid":1,"archive-name":"1/lxc-5","info":{"directory":"/"}}}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if a := c.call(tc.line); kind(a) != "usage" {
				t.Errorf("answer %v", a)
			}
		})
	}
	if a := c.call(`{"id":"last","call":"job_init"}`); a["error"] != nil || a["id"] != "last" {
		t.Errorf("after all that: %v", a)
	}
}

// disk is a volume over a file, as JSON.
func disk(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(map[string]any{"drive": map[string]any{"size": len(content), "path": path}})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestBackupIsCancelledByItsCallerAndItsEnd(t *testing.T) {
	for _, how := range []string{"cancel", "cleanup", "next backup", "job_cleanup", "end"} {
		t.Run(how, func(t *testing.T) {
			store := newFake()
			store.hold = make(chan struct{})
			c := dial(t, store)
			c.call(`{"id":1,"call":"backup_init","args":{"vmid":5,"vmtype":"qemu","start-time":9}}`)
			c.send(`{"id":"b","call":"backup_vm","args":{"vmid":5,"guest-config":"x","volumes":` + disk(t, "content") + `}}`)
			store.hold <- struct{}{} // it is at work
			if how == "end" {
				c.close()
			} else {
				c.send(map[string]string{
					"cancel":      `{"id":3,"call":"cancel","args":{"id":"b"}}`,
					"cleanup":     `{"id":3,"call":"backup_cleanup","args":{"vmid":5,"success":false}}`,
					"next backup": `{"id":3,"call":"backup_init","args":{"vmid":5,"vmtype":"qemu","start-time":10}}`,
					"job_cleanup": `{"id":3,"call":"job_cleanup"}`,
				}[how])
				answers := map[any]any{}
				for range 2 {
					a := c.answer()
					answers[a["id"]] = kind(a)
				}
				if answers["b"] != "cancelled" || answers[3.0] != nil {
					t.Errorf("answers %v", answers)
				}
			}
			if len(store.disks) > 0 {
				t.Error("something is stored")
			}
		})
	}
}

func TestBackupThatWasAbortedDoesNotBegin(t *testing.T) {
	c := dial(t, newFake())
	c.call(`{"id":1,"call":"backup_init","args":{"vmid":5,"vmtype":"qemu","start-time":9}}`)
	c.call(`{"id":2,"call":"backup_cleanup","args":{"vmid":5,"success":false}}`)
	if a := c.call(`{"id":3,"call":"backup_vm","args":{"vmid":5,"guest-config":"x","volumes":` + disk(t, "content") + `}}`); kind(a) != "cancelled" {
		t.Errorf("answer %v", a)
	}
}

func TestCleanupSaysWhatBecameOfABackup(t *testing.T) {
	c := dial(t, newFake())
	success := func(args string) map[string]any {
		return c.call(`{"id":1,"call":"backup_cleanup","args":{"vmid":5` + args + `}}`)
	}
	if a := success(`,"success":0,"info":{"error":"prepare failed"}`); a["error"] != nil {
		t.Errorf("without backup_init and kind: %v", a)
	}
	c.call(`{"id":1,"call":"backup_init","args":{"vmid":5,"vmtype":"qemu","start-time":9}}`)
	if a := success(`,"success":1`); kind(a) != "not-found" {
		t.Errorf("success without a backup: %v", a)
	}
	c.call(`{"id":1,"call":"backup_vm","args":{"vmid":5,"guest-config":"x","volumes":` + disk(t, "content") + `}}`)
	for range 2 {
		if a := success(`,"success":"1","vmtype":"qemu"`); a["error"] != nil {
			t.Errorf("success: %v", a)
		}
	}
	c.send(`{"id":1,"call":"backup_cleanup","args":{"vmid":5,"success":""}}`)
	if l := c.line(); l["log"] == nil || !strings.Contains(l["log"].(map[string]any)["message"].(string), "stays") {
		t.Errorf("failure after success: %v", l)
	}
	c.answer()
	if len(c.store.disks) != 1 {
		t.Error("the archive is gone")
	}
}

func TestLogThatCannotBeReadFailsNothing(t *testing.T) {
	c := dial(t, newFake())
	c.call(`{"id":1,"call":"backup_init","args":{"vmid":5,"vmtype":"qemu","start-time":9}}`)
	for _, file := range []string{"/does/not/exist", "/dev", "/dev/zero"} {
		if a := c.call(`{"id":1,"call":"backup_handle_log_file","args":{"vmid":5,"filename":"` + file + `"}}`); a["error"] != nil {
			t.Errorf("%s: %v", file, a)
		}
	}
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte(strings.Repeat("x", 5<<20)+"the end"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.call(`{"id":1,"call":"backup_handle_log_file","args":{"vmid":5,"filename":"` + path + `"}}`)
	if l := c.store.logs["5/qemu-9"]; len(l) != 4<<20 || !strings.HasSuffix(l, "the end") {
		t.Errorf("%d bytes are kept", len(l))
	}
}

func FuzzServeTakesAnyLine(f *testing.F) {
	f.Add(`{"id":1,"call":"backup_init","args":{"vmid":5,"vmtype":"qemu","start-time":9}}`)
	f.Add(`{"id":1,"call":"cancel","args":{"id":1}}`)
	f.Add(`{"id":[],"call":"restore_vm_init","args":{"volname":"backup/5/qemu-9"}}`)
	f.Fuzz(func(t *testing.T, line string) {
		var out strings.Builder
		s := provider.New(limited{newFake()}, provider.Options{PIDFile: func(int) string { return "/nowhere" }})
		if err := s.Serve(t.Context(), "test", strings.NewReader(line), &out); err != nil {
			t.Fatal(err)
		}
		for l := range strings.Lines(out.String()) {
			if !json.Valid([]byte(l)) {
				t.Fatalf("answer %q", l)
			}
		}
	})
}

// limited is a storage that finds nothing.
type limited struct{ *fake }

func (limited) Prune(context.Context, provider.PruneOptions) ([]provider.Pruned, error) {
	return nil, nil
}
func (limited) Usage(context.Context) (provider.Usage, error) { return provider.Usage{}, nil }
func (limited) Identity(context.Context) (string, error)      { return "", nil }
func (limited) SetNotes(context.Context, provider.Archive, string) error {
	return nil
}
func (limited) SetProtected(context.Context, provider.Archive, bool) error { return nil }
func (limited) Free(context.Context, provider.Archive) error               { return nil }
func (limited) Configs(context.Context, provider.Archive) (provider.Configs, error) {
	return provider.Configs{}, nil
}

func (l limited) Open(context.Context, provider.Archive) (provider.Source, error) {
	return nil, io.ErrUnexpectedEOF
}

// An answer ends its call: the next one may come at once and have the same id.
func TestAnIdIsFreeWhenItsAnswerIsThere(t *testing.T) {
	c := dial(t, &fake{})
	for n := range 30000 {
		c.send(`{"id": 1, "call": "no_such_call"}`)
		v := c.answer()
		if e, _ := v["error"].(map[string]any); e == nil || !strings.Contains(e["message"].(string), "no call") {
			t.Fatalf("call %d: %v", n, v)
		}
	}
}
