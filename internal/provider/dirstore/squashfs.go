package dirstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

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
	// Options as they are in versions 4.5 to 4.7: tar comes in by standard input.
	cmd := exec.CommandContext(ctx, tool, "-", filepath.Join(d.s.dir, name), "-tar", "-noappend", "-no-progress", "-quiet", "-exports")
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Dir = "/"
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	ownGroup(cmd)
	in, err := cmd.StdinPipe()
	if err != nil {
		return res, err
	}
	if err := cmd.Start(); err != nil {
		return res, err
	}
	report, err := d.stream(ctx, walk, in)
	if err != nil {
		cancel() // it must not take what came for all
	}
	err = errors.Join(err, in.Close())
	if werr := cmd.Wait(); werr != nil && (err == nil || ctx.Err() == nil) {
		err = errors.Join(fmt.Errorf("mksquashfs: %w: %s", werr, last(said.String())), err)
	}
	if err != nil {
		return res, err
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
	return provider.Result{Size: size, Stored: size, Read: report.Bytes, Skipped: report.Problems}, f.Sync()
}

// last is the last line of what a program said.
func last(text string) string {
	text = strings.TrimSpace(text)
	return strings.TrimSpace(text[strings.LastIndexByte(text, '\n')+1:])
}
