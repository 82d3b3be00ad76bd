package carry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/tree"
)

// container carries the tree of a container.
func (c *Carrier) container(ctx context.Context, src provider.Source, to provider.Archive, configs provider.Configs) (_ provider.Result, err error) {
	if c.o.Scratch == "" {
		return provider.Result{}, errors.New("there is no directory to unpack a container in")
	}
	dir, err := os.MkdirTemp(c.o.Scratch, "carry-*")
	if err != nil {
		return provider.Result{}, err
	}
	// With a mount still in it, it is not empty, and stays.
	defer func() { err = errors.Join(err, os.Remove(dir)) }()
	t, err := src.Tree(ctx, dir)
	if err != nil {
		return provider.Result{}, err
	}
	defer func() { err = errors.Join(err, t.Release(context.WithoutCancel(ctx))) }()
	at := t.Dir
	if t.Tar != "" {
		at = filepath.Join(dir, "tree")
		defer func() { err = errors.Join(err, os.RemoveAll(at)) }()
		if err := unpack(ctx, t.Tar, at); err != nil {
			return provider.Result{}, err
		}
	}
	return c.to.BackupContainer(ctx, to, provider.Container{Configs: configs, Walk: walk(at)})
}

// walk reads a directory. All below it is the container's, whatever it had
// mounted.
func walk(dir string) provider.Walk {
	return func(ctx context.Context, out tree.Output, base *provider.Base) (tree.Report, error) {
		var o tree.Options
		if base != nil {
			meta, err := pxar.NewReader(base.Meta, nil)
			if err != nil {
				return tree.Report{}, err
			}
			o.Base = &tree.Base{Meta: meta, Payload: base.Payload}
		}
		return tree.Archive(ctx, dir, out, o)
	}
}

// unpack extracts a tar with all that it says of owners and attributes.
func unpack(ctx context.Context, file, dir string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("unpack %s: only root can give files to the users of a container", file)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "tar", "--extract", "--file", file, "--directory", dir, "--preserve-permissions", "--same-owner",
		"--numeric-owner", "--sparse", "--acls", "--xattrs", "--xattrs-include=*", "--warning=no-timestamp")
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		first, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n")
		return fmt.Errorf("unpack %s: %w: %s", file, err, first)
	}
	return nil
}
