#!/usr/bin/env python3
"""Makes a nasty tree, with Python's standard library alone.

    mktree.py [--big MIB] [--most BYTES] [--seed N] DIR    fills DIR, which must be there and be empty
    mktree.py --change N [--seed N] DIR                    changes about N files of it, at random, as a day's work would

Every kind of file; names of any bytes (newlines, no UTF-8, 255 bytes, sorting traps) and paths longer than PATH_MAX; hard links,
also across directories; holes at the start, in the middle and at the end; sizes around the chunk sizes; access and default ACLs
with and without a mask; capabilities; user and trusted attributes, empty and large; project ids; inode flags; setuid, sticky and
no permission at all; times before 1970 and with nanoseconds. What the file system or the user cannot have is left out and named
on stdout, one word a line. Flags that would stop a removal (append only, immutable) are taken off again by

    mktree.py --release DIR
"""

import argparse
import fcntl
import os
import random
import resource
import shutil
import socket
import stat
import struct
import sys

GETFLAGS, SETFLAGS = 0x80086601, 0x40086602
FSGETXATTR, FSSETXATTR = 0x801C581F, 0x401C5820
APPEND, IMMUTABLE, NODUMP, NOATIME, SYNC, DIRSYNC, NOCOW, COMPRESS = 0x20, 0x10, 0x40, 0x80, 0x8, 0x10000, 0x800000, 0x4
MIB = 1 << 20
DAY = 1_700_000_000


class Maker:
    def __init__(self, root, rng, most):
        self.root, self.rng, self.most = os.fsencode(root), rng, most
        self.lacks = set()
        self.times = []  # (path, ns): set at the very end, since work in a directory changes its time
        self.later = []  # flags that forbid changes

    def at(self, *parts):
        return os.path.join(self.root, *(p if isinstance(p, bytes) else p.encode() for p in parts))

    def file(self, name, data=b"", mode=0o644):
        path = self.at(name)
        with open(path, "wb") as f:
            f.write(data)
        os.chmod(path, mode)
        return path

    def directory(self, name, mode=0o755):
        os.mkdir(self.at(name))
        os.chmod(self.at(name), mode)
        return self.at(name)

    def noise(self, size):
        return self.rng.randbytes(size)

    def attempt(self, word, f, *args):
        """Does what not every file system or user can."""
        try:
            f(*args)
        except OSError:
            self.lacks.add(word)

    def make(self, big):
        for part in (self.sizes, self.names, self.deep, self.kinds, self.links, self.sparse, self.modes, self.attributes,
                     self.acls, self.capabilities, self.flags, self.projects, self.many):
            part()
        with open(self.at("sizes", "big"), "wb") as f:
            for i in range(big):  # half of it compresses
                f.write(self.noise(MIB) if i % 2 else bytes([i & 255]) * MIB)
        self.clocks()
        for f, args in self.later:
            self.attempt("flags", f, *args)

    def sizes(self):
        self.directory("sizes")
        for size in (0, 1, 15, 16, 17, 4095, 4096, 4097, MIB - 1, MIB, MIB + 1, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1):
            if size <= self.most:
                self.file(f"sizes/{size}", self.noise(size))
        self.file("sizes/zeros", bytes(min(3 * MIB, self.most)))

    def names(self):
        self.directory("names")
        for n in (b"new\nline", b"\x01\x02\x7f", b"\xff\xfe\x80", b"\xc3\x28", "ü→💾".encode(), b" ", b"-rf", b"--", b"...", b"..a", b"a b",
                  b"\\", b"*", b"[", b"?", b"$HOME", b"'\"`", b"%s", b"a\tb", b"a:b", b"C:", b"con", b"a.pxar", b"trailing ", b"x" * 255,
                  b"\xff" * 255, b"a", b"a-", b"a.", b"a0", b"A", b"e\xcc\x81", b"\xc3\xa9", b"\x80", b"\x7f\x80"):
            try:
                self.file(b"names/" + n, n)
            except OSError:
                self.lacks.add("names")
        for n in (b"a!", b"a.d", b"a\xff"):  # beside the file a: they sort around a/...
            self.directory(b"names/" + n)
            self.file(b"names/" + n + b"/inside", n)
        self.directory("names/empty")

    def deep(self):
        """60 levels of 200 bytes, far beyond PATH_MAX, and 300 short ones."""
        self.directory("deep")
        for name, levels in ((b"d" * 200, 60), (b"s", 300)):
            fd = os.open(self.at("deep"), os.O_RDONLY)
            for level in range(levels):
                os.mkdir(name, dir_fd=fd)
                sub = os.open(name, os.O_RDONLY, dir_fd=fd)
                os.close(fd)
                fd = sub
                f = os.open(b"f", os.O_WRONLY | os.O_CREAT, 0o640, dir_fd=fd)
                os.write(f, b"level %d\n" % level)
                os.close(f)
            os.symlink(b"../f", b"up", dir_fd=fd)
            os.close(fd)

    def kinds(self):
        self.directory("kinds")
        os.mkfifo(self.at("kinds", "fifo"), 0o622)
        s = socket.socket(socket.AF_UNIX)
        here = os.getcwd()
        os.chdir(self.at("kinds"))  # a socket's path may have 107 bytes
        s.bind("socket")
        s.close()
        os.chdir(here)
        for name, kind, dev in (("char", stat.S_IFCHR, (1, 3)), ("block", stat.S_IFBLK, (7, 0)),
                                ("large", stat.S_IFCHR, (4095, 1048575)), ("odd", stat.S_IFBLK, (259, 65537)), ("zero", stat.S_IFCHR, (0, 0))):
            self.attempt("devices", os.mknod, self.at("kinds", name), kind | 0o640, os.makedev(*dev))
        for name, to in (("relative", b"../sizes/1"), ("absolute", b"/etc/passwd"), ("dangling", b"not/there"), ("self", b"self"),
                         ("parent", b"../.."), ("bytes", b"\xff\n"), ("long", b"l" * 1000), ("directory", b"../names"), ("dot", b".")):
            os.symlink(to, self.at("kinds", name))
        if os.geteuid() == 0:
            os.lchown(self.at("kinds", "dangling"), 12, 34)
            self.attempt("ids", os.chown, self.at("kinds", "fifo"), 4294967293, 70000)  # not in a user namespace
        else:
            self.lacks.add("owners")

    def links(self):
        self.directory("links")
        self.directory("links/z")
        self.directory("links/a")
        self.file("links/m", b"one inode, five names\n")
        for n in ("links/a/1", "links/z/2", "links/z/3", "links/b"):
            os.link(self.at("links/m"), self.at(n))
        self.file("links/pair", self.noise(200000))
        os.link(self.at("links/pair"), self.at("names", b"linked\xff"))
        self.file("links/none")  # an empty file with two names
        os.link(self.at("links/none"), self.at("links/none2"))
        os.symlink(b"m", self.at("links/s"))
        os.link(self.at("links/s"), self.at("links/s2"), follow_symlinks=False)
        os.link(self.at("kinds/fifo"), self.at("links/fifo2"))

    def sparse(self):
        self.directory("sparse")
        for name, size, parts in (("start", 9 * MIB, [(8 * MIB, MIB)]), ("middle", 9 * MIB, [(0, 4096), (9 * MIB - 4096, 4096)]),
                                  ("end", 9 * MIB, [(0, MIB)]), ("all", 20 * MIB, []), ("many", 16 * MIB, [(i * MIB, 8192) for i in range(16)]),
                                  ("odd", 3 * MIB + 1, [(MIB + 1, 1)]), ("small", 100, [])):
            if size > self.most:
                continue
            with open(self.at("sparse", name), "wb") as f:
                for off, n in parts:
                    f.seek(off)
                    f.write(self.noise(n))
                f.truncate(size)

    def modes(self):
        self.directory("modes")
        for mode in (0, 0o400, 0o111, 0o777, 0o4755, 0o2755, 0o6711, 0o1644, 0o7777):
            self.file(f"modes/{mode:04o}", b"mode", mode)
        for mode in (0o1777, 0o2775, 0o700, 0o555, 0o7777):
            self.directory(f"modes/d{mode:04o}", mode)
            if mode & 0o200:
                self.file(f"modes/d{mode:04o}/f", b"x", 0o600)
        if os.geteuid() != 0:
            self.lacks.add("owners")
            return
        for i, (uid, gid) in enumerate(((1, 2), (1000, 100), (65534, 65534), (100000, 2147483648), (4294967294, 4294967293))):
            p = self.file(f"modes/owner{i}", b"owned")
            self.attempt("ids", os.chown, p, uid, gid)
            os.chmod(p, 0o4750)  # chown took the bit off
        os.chown(self.directory("modes/owned"), 33, 44)

    def attributes(self):
        d = self.directory("xattrs")
        for word, path in (("xattrs", self.file("xattrs/file", b"attributes")), ("xattrs", d)):
            self.attempt(word, os.setxattr, path, "user.plain", b"value")
            self.attempt(word, os.setxattr, path, "user.empty", b"")
            self.attempt(word, os.setxattr, path, "user.nul", b"\0a\0\xff")
            self.attempt(word, os.setxattr, path, b"user.\xff\xc3", b"a name that is no UTF-8")
            self.attempt(word, os.setxattr, path, "user." + "n" * 250, b"255 bytes of name")
            self.attempt("trusted", os.setxattr, path, "trusted.holdfast", b"only root sees it")
        self.attempt("large-xattrs", os.setxattr, self.file("xattrs/large"), "user.large", self.noise(3000))
        for i in range(8):  # few enough for XFS to keep them in the inode, too large for a listing in the order of their making
            p = self.file(f"xattrs/few{i}")
            for n in self.rng.sample(("user.one", "user.two", "user.three", "user.four"), 4):
                self.attempt("xattrs", os.setxattr, p, n, self.noise(45))
        p = self.file("xattrs/many")
        for i in range(40):
            self.attempt("xattrs", os.setxattr, p, f"user.{i:02}", b"%d" % i)

    def acls(self):
        """ACLs by their bytes: version 2, then tag, permission, id. Tags: owner 1, user 2, group 4, group 8, mask 16, others 32."""
        d = self.directory("acls")
        u, g, none = 2, 8, 0xFFFFFFFF
        full = [(1, 7, none), (u, 6, 1000), (u, 0, 65534), (4, 5, none), (g, 4, 100), (g, 7, 4000000000), (16, 6, none), (32, 1, none)]
        only = [(1, 6, none), (4, 4, none), (16, 2, none), (32, 0, none)]  # a mask, and nobody named
        least = [(1, 7, none), (4, 0, none), (32, 0, none)]
        for name, acl in (("full", full), ("mask", only)):
            self.acl(self.file(f"acls/{name}", b"acl"), "access", acl)
            self.acl(self.directory(f"acls/d-{name}"), "access", acl)
        for name, acl in (("full", full), ("mask", only), ("least", least)):
            self.acl(self.directory(f"acls/default-{name}"), "default", acl)
        both = self.directory("acls/both")
        self.acl(both, "access", full)
        self.acl(both, "default", full)
        self.file("acls/both/child", b"inherited")
        self.directory("acls/both/sub")
        self.file("acls/both/sub/child", b"inherited twice")
        self.acl(d, "default", only)  # what comes later in acls has it, what is there has not

    def acl(self, path, kind, entries):
        value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)
        self.attempt("acls", os.setxattr, path, f"system.posix_acl_{kind}", value)

    def capabilities(self):
        """Version 2: magic with the effective bit, then permitted and inheritable, twice; version 3 has a root id after them."""
        self.directory("caps")
        for name, value in (("net", struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)), ("high", struct.pack("<5I", 0x02000000, 1, 2, 1 << 5, 0)),
                            ("rooted", struct.pack("<6I", 0x03000001, 1 << 12, 0, 0, 0, 100000))):
            p = self.file(f"caps/{name}", b"#!/bin/true\n", 0o755)
            if os.geteuid() == 0:
                os.chown(p, 5, 6)  # before: it takes capabilities off
            self.attempt("capabilities", os.setxattr, p, "security.capability", value)

    def flags(self):
        self.directory("flags")
        for name, bits in (("nodump", NODUMP), ("noatime", NOATIME), ("sync", SYNC), ("nocow", NOCOW), ("compress", COMPRESS)):
            self.attempt("flags-" + name, setflags, self.file(f"flags/{name}"), bits)
        self.attempt("flags-dirsync", setflags, self.directory("flags/dirsync"), DIRSYNC)
        frozen = self.directory("flags/frozen")
        for name, path, bits in (("append", self.file("flags/append", b"log\n"), APPEND), ("immutable", self.file("flags/immutable", b"fixed\n"), IMMUTABLE),
                                 ("immutable", self.file("flags/frozen/file", b"inside"), IMMUTABLE), ("immutable", frozen, IMMUTABLE),
                                 ("append", self.directory("flags/grows"), APPEND)):
            self.later.append((self.attempt, ("flags-" + name, setflags, path, bits)))

    def projects(self):
        self.directory("projects")
        self.attempt("projects", setproject, self.file("projects/file", b"of a project"), 4711)
        self.attempt("projects", setproject, self.directory("projects/dir"), 4294967295 - 1)

    def many(self):
        """1,500 small files, one level of directories; some with the same content."""
        self.directory("many")
        for d in range(15):
            self.directory(f"many/{d}")
            for i in range(100):
                self.file(f"many/{d}/{i}", self.noise(self.rng.randrange(3000)) if i % 3 else b"the same\n" * d)

    def clocks(self):
        """Times for everything, some of them strange; directories last, the deepest first."""
        strange = [0, -1, -1_000_000_000, -500_000_000, 999_999_999, -86400 * 365 * 60 * 10**9 + 1, (1 << 31) * 10**9 - 1, 4_000_000_000 * 10**9 + 7]
        found = []
        for d, dirs, files, fd in os.fwalk(os.fsencode(self.root), topdown=False):
            for n in files + dirs:
                st = os.stat(n, dir_fd=fd, follow_symlinks=False)
                k = len(found)
                found.append(None)
                ns = strange[k % 97] if k % 97 < len(strange) else (DAY + self.rng.randrange(10**7)) * 10**9 + self.rng.randrange(10**9)
                self.attempt("times", lambda: os.utime(n, ns=(st.st_atime_ns, ns), dir_fd=fd, follow_symlinks=False))
        os.utime(self.root, ns=(DAY * 10**9, DAY * 10**9 + 123456789))


def setflags(path, bits):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        old, = struct.unpack("<I", fcntl.ioctl(fd, GETFLAGS, bytes(8))[:4])
        fcntl.ioctl(fd, SETFLAGS, struct.pack("<I4x", old | bits))
        new, = struct.unpack("<I", fcntl.ioctl(fd, GETFLAGS, bytes(8))[:4])
        if new & bits != bits:
            raise OSError("taken and dropped")
    finally:
        os.close(fd)


def setproject(path, number):
    fd = os.open(path, os.O_RDONLY)
    try:
        x = list(struct.unpack("<5I8x", fcntl.ioctl(fd, FSGETXATTR, bytes(28))))
        x[3] = number
        fcntl.ioctl(fd, FSSETXATTR, struct.pack("<5I8x", *x))
    finally:
        os.close(fd)


def release(root):
    """Takes append only and immutable off everything below."""
    for _, dirs, files, fd in os.fwalk(root):
        for n in [b"."] + files:
            try:
                f = os.open(n, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=fd)
            except OSError:
                continue
            try:
                old, = struct.unpack("<I", fcntl.ioctl(f, GETFLAGS, bytes(8))[:4])
                if old & (APPEND | IMMUTABLE):
                    fcntl.ioctl(f, SETFLAGS, struct.pack("<I4x", old & ~(APPEND | IMMUTABLE)))
            except OSError:
                pass
            finally:
                os.close(f)


class Changer:
    """One random change after the other, each to a file or directory of the tree as it is at that moment."""

    def __init__(self, root, rng):
        self.root, self.rng, self.made = os.fsencode(root), rng, 0

    def paths(self):
        """Files and directories that can be named by a path, without those that mktree.py froze."""
        files, dirs = [], []
        for d, names, plain in os.walk(self.root):
            if len(d) > 2000 or b"/flags" in d[len(self.root):]:
                names.clear()
                continue
            names.sort()
            dirs.append(d)
            files += [os.path.join(d, n) for n in sorted(plain)]
        return files, dirs

    def run(self, count):
        files, dirs = self.paths()
        for _ in range(count):
            p, d = self.rng.choice(files), self.rng.choice(dirs)
            try:
                self.rng.choice([self.rewrite, self.append, self.cut, self.patch, self.remove, self.add, self.add, self.rename, self.chmod,
                                 self.touch, self.link, self.replace, self.attribute, self.tree])(p, d)
            except OSError:
                continue  # gone by an earlier change, or of another kind

    def new(self, d):
        self.made += 1
        return os.path.join(d, b"new-%d-%d" % (self.rng.randrange(10**9), self.made))

    def regular(self, p):
        if not stat.S_ISREG(os.lstat(p).st_mode):
            raise OSError("no file")

    def rewrite(self, p, _):
        self.regular(p)
        with open(p, "wb") as f:
            f.write(self.rng.randbytes(self.rng.randrange(200000)))

    def append(self, p, _):
        self.regular(p)
        with open(p, "ab") as f:
            f.write(self.rng.randbytes(self.rng.randrange(20000)))

    def cut(self, p, _):
        self.regular(p)
        os.truncate(p, self.rng.randrange(os.stat(p).st_size + 1))

    def patch(self, p, _):
        self.regular(p)
        with open(p, "r+b") as f:
            f.seek(self.rng.randrange(os.stat(p).st_size + 1))
            f.write(b"patched")

    def remove(self, p, _):
        os.unlink(p)

    def add(self, _, d):
        with open(self.new(d), "wb") as f:
            f.write(self.rng.randbytes(self.rng.randrange(60000)))

    def rename(self, p, d):
        os.rename(p, self.new(d))

    def chmod(self, p, _):
        self.regular(p)
        os.chmod(p, self.rng.randrange(0o10000))

    def touch(self, p, _):
        os.utime(p, ns=(0, self.rng.randrange(2 * 10**18)), follow_symlinks=False)

    def link(self, p, d):
        self.regular(p)
        os.link(p, self.new(d))

    def replace(self, p, _):
        os.unlink(p)
        self.rng.choice([os.mkdir, os.mkfifo, lambda q: os.symlink(b"elsewhere", q)])(p)

    def attribute(self, p, _):
        self.regular(p)
        os.setxattr(p, "user.changed", self.rng.randbytes(20))

    def tree(self, _, d):
        """A directory with all below it goes, or a copy of one comes."""
        if d == self.root or os.path.dirname(d) == self.root:
            return
        if self.rng.randrange(2):
            shutil.rmtree(d)
        else:
            shutil.copytree(d, self.new(os.path.dirname(d)), symlinks=True, ignore=lambda q, ns: [n for n in ns if not plain(os.path.join(q, n))])


def plain(p):
    return stat.S_IFMT(os.lstat(p).st_mode) in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)


def main():
    ap = argparse.ArgumentParser(description="Makes a nasty tree.")
    ap.add_argument("--big", type=int, default=300, help="MiB of the biggest file (300)")
    ap.add_argument("--most", type=int, default=sys.maxsize, help="no other file has more bytes")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--change", type=int, help="change about so many files of a tree that is there")
    ap.add_argument("--release", action="store_true", help="take off the flags that stop a removal")
    ap.add_argument("dir")
    args = ap.parse_args()
    os.umask(0o022)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sys.setrecursionlimit(10000)
    if args.release:
        release(os.fsencode(args.dir))
    elif args.change is not None:
        Changer(args.dir, random.Random(args.seed)).run(args.change)
    elif os.listdir(args.dir) not in ([], ["lost+found"]):
        ap.error(f"{args.dir} is not empty")
    else:
        m = Maker(args.dir, random.Random(args.seed), args.most)
        m.make(args.big)
        print("".join(w + "\n" for w in sorted(m.lacks)), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
