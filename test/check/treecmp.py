#!/usr/bin/env python3
"""Compares two trees, with Python's standard library and the kernel's view alone.

    treecmp.py [--ignore WHAT]... [--skip PATH]... A B     says each difference between two trees; exit 1 if there is any
    treecmp.py --list DIR                                  writes the listing of a tree to stdout, one JSON object a line

A and B are directories or such listings ("-" is standard input), so that a tree can be compared with what it was, and with what
an archive says of it. Compared are: type, mode, uid, gid, mtime in nanoseconds, size, content (SHA-256), link targets, device
numbers, groups of hard links, extended attributes with ACLs and capabilities, inode flags, project ids, and that B's files
occupy not much more than A's. Not compared are access and change times, inode numbers, link counts and the mode of symlinks.

WHAT is one of the words of FIELDS, or xattr:PREFIX for the attributes whose names begin so. A field that a listing lacks for an
entry (null) is not compared either. PATH is relative to the root and names one entry with all below it. Exit 2: wrong usage, or
a tree could not be read.
"""

import argparse
import fcntl
import hashlib
import json
import os
import resource
import stat
import struct
import sys

GETFLAGS = 0x80086601  # FS_IOC_GETFLAGS
FSGETXATTR = 0x801C581F  # FS_IOC_FSGETXATTR
# The inode flags that an archive can hold; the rest (extents, index, encryption ...) describe storage.
FLAGS = {0x20: "a", 0x80: "A", 0x4: "c", 0x800000: "C", 0x40: "d", 0x10000: "D", 0x10: "i", 0x8: "S", 0x400: "m", 0x20000000: "P"}
TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo",
         stat.S_IFSOCK: "socket", stat.S_IFCHR: "char device", stat.S_IFBLK: "block device"}
FIELDS = ["mode", "uid", "gid", "mtime", "size", "content", "target", "device", "link", "xattrs", "flags", "project", "blocks"]
# What a file may occupy beyond its original: file systems round differently, and reserve.
SLACK = 1 << 20


class Walk:
    """The entries of a directory in the order of an archive: siblings by the bytes of their names, depth first.

    Works with descriptors, one a level, so that a path may be longer than PATH_MAX."""

    def __init__(self, root, content=True):
        self.root, self.content, self.first = os.fsencode(root), content, {}

    def __iter__(self):
        stack = [(b"", os.open(self.root, os.O_RDONLY | os.O_DIRECTORY), None)]
        try:
            yield self.entry(b"", stack[0][1], os.fstat(stack[0][1]), None)
            stack[0] = (b"", stack[0][1], names(stack[0][1]))
            while stack:
                path, fd, rest = stack[-1]
                if not rest:
                    os.close(stack.pop()[1])
                    continue
                name = rest.pop()
                below = path + b"/" + name if path else name
                st = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if stat.S_ISDIR(st.st_mode):
                    sub = open_quietly(name, fd, os.O_DIRECTORY)
                    stack.append((below, sub, None))
                    yield self.entry(below, sub, st, None)
                    stack[-1] = (below, sub, names(sub))
                else:
                    yield self.leaf(below, name, fd, st)
        finally:
            for _, fd, _ in stack:
                os.close(fd)

    def leaf(self, path, name, parent, st):
        if not stat.S_ISREG(st.st_mode):
            target = os.readlink(name, dir_fd=parent) if stat.S_ISLNK(st.st_mode) else None
            return self.entry(path, None, st, target)
        fd = open_quietly(name, parent, 0)
        try:
            return self.entry(path, fd, st, None)
        finally:
            os.close(fd)

    def entry(self, path, fd, st, target):
        kind = stat.S_IFMT(st.st_mode)
        e = {"path": os.fsdecode(path), "type": TYPES[kind], "uid": st.st_uid, "gid": st.st_gid, "mtime": st.st_mtime_ns}
        if kind != stat.S_IFLNK:
            e["mode"] = stat.S_IMODE(st.st_mode)
        if target is not None:
            e["target"] = os.fsdecode(target)
        if kind in (stat.S_IFCHR, stat.S_IFBLK):
            e["device"] = [os.major(st.st_rdev), os.minor(st.st_rdev)]
        if kind == stat.S_IFREG:
            e["size"], e["blocks"] = st.st_size, st.st_blocks * 512
            if st.st_nlink > 1:
                e["link"] = self.first.setdefault((st.st_dev, st.st_ino), e["path"])
            if self.content:
                e["content"] = digest(fd)
        if fd is not None:
            e["xattrs"] = xattrs(fd)
            e["flags"] = flags(fd)
            e["project"] = project(fd)
        return e


def names(fd):
    """The names in a directory, the last one first."""
    with os.scandir(fd) as it:  # of a descriptor it gives strings
        return sorted((os.fsencode(e.name) for e in it), reverse=True)


def open_quietly(name, parent, more):
    how = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | more
    try:
        return os.open(name, how | os.O_NOATIME, dir_fd=parent)
    except PermissionError:
        return os.open(name, how, dir_fd=parent)


def digest(fd):
    h = hashlib.sha256()
    while block := os.read(fd, 1 << 20):
        h.update(block)
    return h.hexdigest()


def xattrs(fd):
    try:
        return {n: os.getxattr(fd, n).hex() for n in sorted(os.listxattr(fd))}
    except OSError:
        return {}  # a file system without them has none


def flags(fd):
    try:
        word, = struct.unpack("<I", fcntl.ioctl(fd, GETFLAGS, bytes(8))[:4])
    except OSError:
        return ""
    return "".join(c for bit, c in FLAGS.items() if word & bit)


def project(fd):
    try:
        return struct.unpack("<5I8x", fcntl.ioctl(fd, FSGETXATTR, bytes(28)))[3]
    except OSError:
        return 0


def listing(source):
    """The entries of a directory or of a listing."""
    if source == "-":
        yield from map(json.loads, sys.stdin)
    elif os.path.isdir(source):
        yield from Walk(source)
    else:
        with open(source, encoding="ascii") as f:
            yield from map(json.loads, f)


def order(e):
    """Where an entry stands: the bytes of its path, component by component."""
    return os.fsencode(e["path"]).split(b"/") if e["path"] else []


class Compare:
    def __init__(self, ignore, skip):
        self.fields = [f for f in FIELDS if f not in ignore]
        self.prefixes = tuple(i[len("xattr:"):] for i in ignore if i.startswith("xattr:"))
        self.skip = [os.fsencode(s).strip(b"/").split(b"/") for s in skip]
        self.differences, self.same = 0, 0

    def say(self, path, what):
        self.differences += 1
        print(f"{json.dumps(path or '.')}: {what}")

    def run(self, a, b):
        a, b = self.kept(a), self.kept(b)
        x, y = next(a, None), next(b, None)
        while x or y:
            if y is None or (x and order(x) < order(y)):
                self.say(x["path"], f"{x['type']} is missing")
                x = next(a, None)
            elif x is None or order(y) < order(x):
                self.say(y["path"], f"{y['type']} should not be there")
                y = next(b, None)
            else:
                self.pair(x, y)
                x, y = next(a, None), next(b, None)

    def kept(self, entries):
        for e in entries:
            at = order(e)
            if not any(at[:len(s)] == s for s in self.skip):
                yield e

    def pair(self, x, y):
        before = self.differences
        if x["type"] != y["type"]:
            self.say(x["path"], f"is a {y['type']}, should be a {x['type']}")
            return
        for f in self.fields:
            v, w = x.get(f), y.get(f)
            if f == "xattrs":
                self.attributes(x["path"], v, w)
            elif f == "blocks":
                if v is not None and w is not None and w > v + SLACK + v // 8:
                    self.say(x["path"], f"occupies {w} bytes, its original {v}")
            elif f == "link":
                if v != w:
                    self.say(x["path"], f"is linked with {json.dumps(w)}, should be with {json.dumps(v)}")
            elif v != w and v is not None and w is not None:
                say = oct if f == "mode" else lambda n: n
                self.say(x["path"], f"{f} is {say(w)!r}, should be {say(v)!r}")
        self.same += self.differences == before

    def attributes(self, path, v, w):
        if v is None or w is None:
            return
        for n in sorted(set(v) | set(w)):
            if not n.startswith(self.prefixes) and v.get(n) != w.get(n):
                self.say(path, f"xattr {json.dumps(n)} is {w.get(n)}, should be {v.get(n)}")


def main():
    ap = argparse.ArgumentParser(description="Compares two trees.")
    ap.add_argument("--ignore", action="append", default=[], metavar="WHAT", help=f"{', '.join(FIELDS)}, or xattr:PREFIX")
    ap.add_argument("--skip", action="append", default=[], metavar="PATH")
    ap.add_argument("--list", action="store_true", help="write a listing of the one tree")
    ap.add_argument("trees", nargs="+", metavar="TREE")
    args = ap.parse_args()
    for i in args.ignore:
        if i not in FIELDS and not (i.startswith("xattr:") and len(i) > 6):
            ap.error(f"--ignore {i}: no such field")
    if len(args.trees) != (1 if args.list else 2):
        ap.error("two trees to compare, one to list")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # one descriptor a level
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        if args.list:
            for e in listing(args.trees[0]):
                print(json.dumps(e))
            return 0
        c = Compare(set(args.ignore), args.skip)
        c.run(*map(listing, args.trees))
    except (OSError, ValueError) as e:
        print(f"treecmp: {e}", file=sys.stderr)
        return 2
    print(f"{c.same} entries are the same, {c.differences} differences", file=sys.stderr)
    return 1 if c.differences else 0


if __name__ == "__main__":
    sys.exit(main())
