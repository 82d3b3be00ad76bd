#!/usr/bin/env python3
"""Reads pxar archives without any of Holdfast's code, and lists what is in them as treecmp.py lists a directory.

    pxar.py FILE.pxar                                  an archive of version 1
    pxar.py FILE.mpxar FILE.ppxar                      the two streams of version 2
    pxar.py [--keyfile FILE] REPOSITORY SNAPSHOT NAME  an archive in a repository, as host/pc/2026-11-22T10:00:00Z root.pxar
    treecmp.py DIR <(pxar.py ...)                      compares

Everything that can be recomputed is: each item's length, the order of attributes and of siblings, every goodbye table with its
hashes, tree order, offsets and sizes, where hard links lead, and that contents of version 2 follow one another. A fault ends the
reading: one line on stderr, exit 1. Exit 2: wrong usage.
"""

import argparse
import hashlib
import json
import os
import struct
import sys

from formats import MAX_CHUNK, MAX_PLAIN, Blob, Fault, Index, Key

NAMES = """VERSION PRELUDE ENTRY_V2 ENTRY FILENAME SYMLINK HARDLINK DEVICE XATTR ACL_USER ACL_GROUP ACL_GROUP_OBJ ACL_DEFAULT
 ACL_DEFAULT_USER ACL_DEFAULT_GROUP FCAPS QUOTA_PROJID PXAR_PAYLOAD PXAR_PAYLOAD_REF GOODBYE PXAR_GOODBYE_TAIL_MARKER
 PXAR_PAYLOAD_START_MARKER PXAR_PAYLOAD_TAIL_MARKER""".split()
K0, K1 = 0x83AC3F1CFBB450DB, 0xAA4F1B6879369FBD
M64 = (1 << 64) - 1
NONE = M64  # a permission that a default ACL lacks
FLAGS = {0x2000: "h", 0x4000: "s", 0x8000: "r", 0x10000: "a", 0x20000: "A", 0x40000: "c", 0x80000: "C", 0x100000: "d", 0x200000: "D", 0x400000: "i", 0x800000: "S",
         0x1000000: "m", 0x2000000: "P"}
KINDS = {0o100000: "file", 0o040000: "directory", 0o120000: "symlink", 0o010000: "fifo", 0o140000: "socket", 0o020000: "char device",
         0o060000: "block device"}
# Attributes stand in this order.
RANK = {n: i for i, n in enumerate("XATTR ACL_USER ACL_GROUP ACL_GROUP_OBJ ACL_DEFAULT ACL_DEFAULT_USER ACL_DEFAULT_GROUP FCAPS QUOTA_PROJID".split())}
ONCE = {"ACL_GROUP_OBJ", "ACL_DEFAULT", "FCAPS", "QUOTA_PROJID"}
EXACT = {"ENTRY_V2": 40, "ENTRY": 32, "DEVICE": 16, "ACL_USER": 16, "ACL_GROUP": 16, "ACL_GROUP_OBJ": 8, "ACL_DEFAULT": 32,
         "ACL_DEFAULT_USER": 16, "ACL_DEFAULT_GROUP": 16, "QUOTA_PROJID": 8, "PXAR_PAYLOAD_REF": 16, "VERSION": 8}
CLI = b".pxarexclude-cli"  # the one name that stands out of order


def siphash(data, k0=K0, k1=K1):
    """SipHash-2-4."""
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def rounds(n):
        a, b, c, d = v
        for _ in range(n):
            a = a + b & M64
            b = (b << 13 | b >> 51) & M64 ^ a
            a = (a << 32 | a >> 32) & M64
            c = c + d & M64
            d = (d << 16 | d >> 48) & M64 ^ c
            a = a + d & M64
            d = (d << 21 | d >> 43) & M64 ^ a
            c = c + b & M64
            b = (b << 17 | b >> 47) & M64 ^ c
            c = (c << 32 | c >> 32) & M64
        v[:] = a, b, c, d

    whole = len(data) // 8 * 8
    words = list(struct.unpack(f"<{whole // 8}Q", data[:whole]))
    words.append(int.from_bytes(data[whole:], "little") | len(data) % 256 << 56)
    for w in words:
        v[3] ^= w
        rounds(2)
        v[0] ^= w
    v[2] ^= 0xFF
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


TYPES = {siphash(f"__PROXMOX_FORMAT_{n}__".encode()): n for n in NAMES}
TAIL = next(h for h, n in TYPES.items() if n == "PXAR_GOODBYE_TAIL_MARKER")


def tree_order(items):
    """Sorted items as the array of a complete binary search tree."""
    out = [None] * len(items)

    def place(lo, n, slot):
        if n == 0:
            return
        h = n.bit_length() - 1
        half = 1 << h - 1 if h else 0
        left = half - 1 + min(n - ((1 << h) - 1), half) if n > 1 else 0
        out[slot] = items[lo + left]
        place(lo, left, 2 * slot + 1)
        place(lo + left + 1, n - left - 1, 2 * slot + 2)

    place(0, len(items), 0)
    return out


class Stream:
    """Bytes in a row from pieces."""

    def __init__(self, pieces):
        self.pieces, self.piece, self.used, self.at = iter(pieces), b"", 0, 0

    def some(self, n):
        """At most n bytes; none at the end."""
        if self.used == len(self.piece):
            self.piece, self.used = next(self.pieces, b""), 0
        out = self.piece[self.used:self.used + n]
        self.used += len(out)
        self.at += len(out)
        return out

    def read(self, n):
        parts, want = [], n
        while want:
            part = self.some(want)
            if not part:
                raise Fault(f"ends at {self.at}, {want} bytes too early")
            parts.append(part)
            want -= len(part)
        return b"".join(parts)

    def header(self):
        kind, size = struct.unpack("<QQ", self.read(16))
        if kind not in TYPES:
            raise Fault(f"unknown item {kind:016x} at {self.at - 16}")
        if size < 16:
            raise Fault(f"item {TYPES[kind]} at {self.at - 16} has {size} bytes")
        return TYPES[kind], size - 16

    def digest(self, n):
        h = hashlib.sha256()
        while n:
            part = self.some(min(n, 1 << 20))
            if not part:
                raise Fault(f"ends at {self.at}, within a file")
            h.update(part)
            n -= len(part)
        return h.hexdigest()

    def skip(self, n):
        while n:
            part = self.some(min(n, 1 << 20))
            if not part:
                raise Fault(f"ends at {self.at}, {n} bytes before a file")
            n -= len(part)


class Directory:
    def __init__(self, start, path, filename, is_root=False):
        self.start, self.path, self.filename, self.is_root = start, path, filename, is_root
        self.table = []  # (hash, start of FILENAME, possible sizes)
        self.last = None  # name of the last child


class Archive:
    """The entries of an archive, in its order, as treecmp.py has them."""

    def __init__(self, meta, payload=None):
        self.meta, self.payload = meta, payload
        self.files = {}  # FILENAME start of each regular file -> path
        self.linked = set()
        self.prelude = None
        self.padding = 0  # bytes of the payload stream that no file refers to
        self.pushed = None

    def item(self):
        if self.pushed:
            got, self.pushed = self.pushed, None
            return got
        at = self.meta.at
        kind, size = self.meta.header()
        return kind, size, at

    def position(self):
        """Where the next item begins."""
        return self.pushed[2] if self.pushed else self.meta.at

    def content(self, kind, size):
        if kind in EXACT and size != EXACT[kind]:
            raise Fault(f"{kind} before {self.meta.at} has {size} bytes, not {EXACT[kind]}")
        if size > 1 << 25:
            raise Fault(f"{kind} before {self.meta.at} has {size} bytes")
        return self.meta.read(size)

    def __iter__(self):
        kind, size, at = self.item()
        if kind == "VERSION":
            if struct.unpack("<Q", self.content(kind, size)) != (2,) or self.payload is None:
                raise Fault("a version item that is not 2, or no payload stream beside it")
            if self.payload.header() != ("PXAR_PAYLOAD_START_MARKER", 0):
                raise Fault("the payload stream does not begin with its marker")
            kind, size, at = self.item()
            if kind == "PRELUDE":
                self.prelude = self.content(kind, size)
                kind, size, at = self.item()
        elif self.payload is not None:
            raise Fault("a payload stream beside an archive of version 1")
        self.pushed = kind, size, at
        e = self.entry("")
        if e["type"] != "directory":
            raise Fault("the root is no directory")
        yield e
        stack = [Directory(0 if self.payload else at, b"", None, True)]
        while stack:
            d = stack[-1]
            kind, size, at = self.item()
            if kind == "GOODBYE":
                self.goodbye(d, size, at)
                stack.pop()
                if stack:
                    n = self.meta.at - d.filename
                    stack[-1].table.append((siphash(d.path.rpartition(b"/")[2]), d.filename, (n,)))
                continue
            if kind != "FILENAME":
                raise Fault(f"{kind} at {at}, where a name or the end of a directory is due")
            yield from self.child(stack, d, self.name(d, self.content(kind, size), at), at)
        if self.meta.some(1):
            raise Fault(f"bytes behind the end at {self.meta.at - 1}")
        if self.payload:
            self.finish()

    def name(self, d, raw, at):
        name = raw[:-1]
        if raw[-1:] != b"\0" or not name or name in (b".", b"..") or b"/" in name or b"\0" in name or len(name) > 4096:
            raise Fault(f"name {raw!r} at {at}")
        if d.last is not None and (name <= d.last or d.last == CLI) and not (d.is_root and name == CLI and not self.payload):
            raise Fault(f"name {raw!r} at {at} comes after {d.last!r}")
        d.last = name
        return name

    def child(self, stack, d, name, at):
        path = d.path + b"/" + name if d.path else name
        kind, size, start = self.item()
        if kind == "HARDLINK":
            yield self.hardlink(os.fsdecode(path), self.content(kind, size), at)
        else:
            self.pushed = kind, size, start
            e = self.entry(os.fsdecode(path))
            yield e
            if e["type"] == "directory":
                stack.append(Directory(start, path, at))
                return
            if e["type"] == "file":
                self.files[at] = e
                if self.payload:
                    n = self.meta.at - at
                    d.table.append((siphash(name), at, (n, n + e["size"])))
                    return
        d.table.append((siphash(name), at, (self.position() - at,)))

    def hardlink(self, path, raw, at):
        back, = struct.unpack("<Q", raw[:8])
        to = self.files.get(at - back)
        if back == 0 or to is None:
            raise Fault(f"the hard link at {at} leads {back} bytes back, where no file is")
        if os.fsencode(to["path"]) + b"\0" != raw[8:]:
            raise Fault(f"the hard link at {at} leads to {to['path']!r} and says {raw[8:]!r}")
        self.linked.add(to["path"])
        return dict(to, path=path, link=to["path"])

    def entry(self, path):
        kind, size, at = self.item()
        raw = self.content(kind, size)
        if kind == "ENTRY_V2":
            mode, bits, uid, gid, sec, nano, pad = struct.unpack("<QQIIqII", raw)
            if pad or nano >= 10**9:
                raise Fault(f"the entry at {at} has {nano} nanoseconds and padding {pad}")
        elif kind == "ENTRY":
            mode, bits, uid, gid, nano = struct.unpack("<QQIIQ", raw)
            sec = 0
        else:
            raise Fault(f"{kind} at {at}, where an entry is due")
        if mode & 0o170000 not in KINDS or mode >> 16 or bits & ~sum(FLAGS):
            raise Fault(f"mode {mode:o} and flags {bits:x} at {at}")
        e = {"path": path, "type": KINDS[mode & 0o170000], "mode": mode & 0o7777, "uid": uid, "gid": gid, "mtime": sec * 10**9 + nano,
             "flags": "".join(c for bit, c in FLAGS.items() if bits & bit), "project": 0}
        attributes = self.attributes(at)
        self.rest(e)
        if e["type"] in ("file", "directory"):
            e["xattrs"] = xattrs(mode, attributes)
            e["project"] = struct.unpack("<Q", attributes["QUOTA_PROJID"][0])[0] if "QUOTA_PROJID" in attributes else 0
        elif attributes:
            raise Fault(f"a {e['type']} with attributes at {at}")
        return e

    def attributes(self, at):
        found, rank = {}, -1
        while True:
            kind, size, start = self.item()
            if kind not in RANK:
                self.pushed = kind, size, start
                return found
            if RANK[kind] < rank or kind in found and kind in ONCE:
                raise Fault(f"{kind} at {start} is out of order in the entry at {at}")
            rank = RANK[kind]
            found.setdefault(kind, []).append(self.content(kind, size))

    def rest(self, e):
        """What ends an entry: content, target, device."""
        if e["type"] in ("directory", "fifo", "socket"):
            return
        kind, size, at = self.item()
        want = {"file": "PXAR_PAYLOAD_REF" if self.payload else "PXAR_PAYLOAD", "symlink": "SYMLINK"}.get(e["type"], "DEVICE")
        if kind != want:
            raise Fault(f"{kind} at {at} in a {e['type']}")
        if kind == "PXAR_PAYLOAD":
            e["size"], e["content"] = size, self.meta.digest(size)
            return
        raw = self.content(kind, size)
        if kind == "SYMLINK":
            if raw[-1:] != b"\0" or len(raw) == 1 or b"\0" in raw[:-1]:
                raise Fault(f"target {raw!r} at {at}")
            e["target"] = os.fsdecode(raw[:-1])
        elif kind == "DEVICE":
            e["device"] = list(struct.unpack("<QQ", raw))
        else:
            offset, e["size"] = struct.unpack("<QQ", raw)
            e["content"] = self.referred(offset, e["size"], at)

    def referred(self, offset, size, at):
        p = self.payload
        if offset < p.at:
            raise Fault(f"the reference at {at} leads to {offset}, behind it is {p.at}")
        self.padding += offset - p.at
        p.skip(offset - p.at)
        if p.header() != ("PXAR_PAYLOAD", size):
            raise Fault(f"the reference at {at} leads to {offset}, where no content of {size} bytes begins")
        return p.digest(size)

    def finish(self):
        """The payload stream ends with its tail marker."""
        last = b""
        while part := self.payload.some(1 << 20):
            last = (last + part)[-16:]
            self.padding += len(part)
        self.padding -= 16
        if Stream([last]).header() != ("PXAR_PAYLOAD_TAIL_MARKER", 0):
            raise Fault("the payload stream does not end with its marker")

    def goodbye(self, d, size, at):
        raw = self.meta.read(size)
        if len(raw) != 24 * (len(d.table) + 1):
            raise Fault(f"the table at {at} has {len(raw)} bytes for {len(d.table)} children")
        rows = [struct.unpack("<QQQ", raw[i:i + 24]) for i in range(0, len(raw), 24)]
        if rows[-1] != (TAIL, at - d.start, size + 16):
            raise Fault(f"the table at {at} ends with {rows[-1]}")
        for row, (name, start, sizes) in zip(rows, tree_order(sorted(d.table))):
            if row[:2] != (name, at - start) or row[2] not in sizes:
                raise Fault(f"the table at {at} has {row}, the child is {name, at - start, sizes}")


def xattrs(mode, found):
    """The attributes as the kernel would give them."""
    out = {}
    for raw in found.get("XATTR", []):
        name, nul, value = raw.partition(b"\0")
        if not nul or not name.startswith((b"user.", b"trusted.")) and name != b"security.NTACL":
            raise Fault(f"attribute {name!r}")
        if os.fsdecode(name) in out:
            raise Fault(f"attribute {name!r} twice")
        out[os.fsdecode(name)] = value.hex()
    if "FCAPS" in found:
        out["security.capability"] = found["FCAPS"][0].hex()
    numbers = lambda kind, n: [struct.unpack(f"<{n}Q", raw) for raw in found.get(kind, [])]
    for kind in ("ACL_USER", "ACL_GROUP", "ACL_DEFAULT_USER", "ACL_DEFAULT_GROUP"):
        if numbers(kind, 2) != sorted(numbers(kind, 2)):
            raise Fault(f"{kind} out of order")
    users, groups, group_obj = numbers("ACL_USER", 2), numbers("ACL_GROUP", 2), numbers("ACL_GROUP_OBJ", 1)
    if users or groups or group_obj:
        if not group_obj:
            raise Fault("an ACL that names someone and has no mask")
        out["system.posix_acl_access"] = acl(mode >> 6 & 7, users, group_obj[0][0], groups, mode >> 3 & 7, mode & 7)
    if default := numbers("ACL_DEFAULT", 4):
        owner, group, other, mask = default[0]
        out["system.posix_acl_default"] = acl(owner, numbers("ACL_DEFAULT_USER", 2), group, numbers("ACL_DEFAULT_GROUP", 2), mask, other)
    elif "ACL_DEFAULT_USER" in found or "ACL_DEFAULT_GROUP" in found:
        raise Fault("a default ACL without its base")
    return out


def acl(owner, users, group, groups, mask, other):
    nobody = 0xFFFFFFFF
    entries = [(1, owner, nobody), *((2, p, i) for i, p in users), (4, group, nobody), *((8, p, i) for i, p in groups),
               (16, mask, nobody), (32, other, nobody)]
    return (struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries if e[1] != NONE)).hex()


class Repository:
    """Archives of the snapshots in a repository."""

    def __init__(self, base, key):
        self.base, self.key = base, key

    def index(self, snapshot, name):
        with open(os.path.join(self.base, snapshot, name), "rb") as f:
            return Index(name, f.read())

    def pieces(self, index):
        for digest, length in index.chunks:
            h = digest.hex()
            with open(os.path.join(self.base, ".chunks", h[:4], h), "rb") as f:
                plain = Blob(f.read()).plain(self.key, MAX_CHUNK)
            if len(plain) != length:
                raise Fault(f"chunk {h} has {len(plain)} bytes, the index says {length}")
            yield plain

    def stream(self, snapshot, name):
        return Stream(self.pieces(self.index(snapshot, name)))

    def manifest(self, snapshot):
        with open(os.path.join(self.base, snapshot, "index.json.blob"), "rb") as f:
            return json.loads(Blob(f.read()).plain(None, MAX_PLAIN))

    def archive(self, snapshot, name):
        """The archive that users call NAME.pxar."""
        files = {f["filename"] for f in self.manifest(snapshot)["files"]}
        base = name.removesuffix(".pxar")
        if f"{base}.pxar.didx" in files:
            return Archive(self.stream(snapshot, f"{base}.pxar.didx"))
        if {f"{base}.mpxar.didx", f"{base}.ppxar.didx"} <= files:
            return Archive(self.stream(snapshot, f"{base}.mpxar.didx"), self.stream(snapshot, f"{base}.ppxar.didx"))
        raise Fault(f"{snapshot} has no {name}")


def file_pieces(name):
    with open(name, "rb") as f:
        while part := f.read(1 << 20):
            yield part


def main():
    ap = argparse.ArgumentParser(description="Lists a pxar archive.")
    ap.add_argument("--keyfile")
    ap.add_argument("names", nargs="+", metavar="FILE")
    args = ap.parse_args()
    try:
        if len(args.names) == 3:
            key = Key.from_file(args.keyfile, os.environ.get("PBS_ENCRYPTION_PASSWORD", "").encode()) if args.keyfile else None
            archive = Repository(args.names[0], key).archive(*args.names[1:])
        else:
            archive = Archive(*(Stream(file_pieces(n)) for n in args.names))
        linked = []  # the first name of a group is known as such at the end only
        for e in archive:
            linked.append(e)
        for e in linked:
            if e["path"] in archive.linked:
                e["link"] = e["path"]
            print(json.dumps(e))
    except (Fault, OSError) as e:
        print(f"pxar: {e}", file=sys.stderr)
        return 1
    if archive.payload:
        print(f"{archive.padding} of {archive.payload.at} bytes of the payload stream belong to no file", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
