package dirstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/holdfast-backup/holdfast/internal/provider"
)

// squashfs hands the tree, as a tar, to mksquashfs. So patterns, further file
// systems, ids and the rate are as for tar, and only ACLs are lost, which
// squashfs has no place for.
func (d *draft) squashfs(ctx context.Context, walk provider.Walk) (res provider.Result, err error) {
	tool, err := exec.LookPath("mksquashfs")
	if err != nil {
		return res, fmt.Errorf("keeping containers as squashfs needs mksquashfs (package squashfs-tools), or keep them as tar: %w", err)
	}
	name := path.Join(d.dir, squashFile)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var m *maker
	report, err := d.stream(ctx, walk, func(src *entries) (_ io.Writer, err error) {
		m, err = startMaker(ctx, tool, filepath.Join(d.s.dir, name), src)
		return m, err
	})
	if err != nil {
		cancel() // it must not take what came for all
	}
	if m != nil {
		err = m.end(err)
	}
	if err != nil {
		return res, err
	}
	if n := m.src.acls; n > 0 {
		d.s.o.Log.Warn("squashfs has no place for ACLs; keep the container as tar to have them", "backup", d.a.Name, "entries", n)
	}
	if root := &m.src.root; len(root.Xattrs) > 0 || root.FCaps != nil {
		d.s.o.Log.Warn("mksquashfs takes no extended attributes of the root from a tar", "backup", d.a.Name)
	}
	f, err := d.s.fs.Open(name)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return res, err
	}
	return provider.Result{Stored: size, Read: report.Bytes, Skipped: report.Problems}, f.Sync()
}

// maker is a running mksquashfs.
type maker struct {
	io.WriteCloser // its input
	cmd            *exec.Cmd
	said           bytes.Buffer
	src            *entries
}

// startMaker starts one. It takes no notice of what a tar says of the root.
func startMaker(ctx context.Context, tool, to string, src *entries) (*maker, error) {
	src.plain = true
	root := &src.root
	m := &maker{src: src}
	// Options as they are in versions 4.5 to 4.7: a tar comes in by standard input.
	m.cmd = exec.CommandContext(ctx, tool, "-", to, "-tar", "-noappend", "-no-progress", "-quiet",
		"-root-mode", fmt.Sprintf("%o", plainMode(&root.Metadata)&0o7777), "-root-uid", fmt.Sprint(root.UID), "-root-gid", fmt.Sprint(root.GID),
		"-root-time", fmt.Sprint(max(0, min(root.Mtime.Time().Unix(), math.MaxUint32))))
	m.cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	m.cmd.Dir = "/"
	m.cmd.Stdout, m.cmd.Stderr = &m.said, &m.said
	ownGroup(m.cmd)
	in, err := m.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	m.WriteCloser = in
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	return m, nil
}

// end waits for the program; err is why what it was given is not all.
func (m *maker) end(err error) error {
	cerr := m.Close()
	werr := m.cmd.Wait()
	switch {
	case err != nil && errors.Is(err, syscall.EPIPE) && werr != nil: // it ended first
		return fmt.Errorf("mksquashfs: %w: %s", werr, last(m.said.String()))
	case err != nil:
		return err
	case werr != nil:
		return fmt.Errorf("mksquashfs: %w: %s", werr, last(m.said.String()))
	}
	return cerr
}

// last is the last line of what a program said.
func last(text string) string {
	text = strings.TrimSpace(text)
	return strings.TrimSpace(text[strings.LastIndexByte(text, '\n')+1:])
}
