"""Reads a catalog, and the entries that an archive of version 1 must have in it."""

import hashlib
import os

from formats import Fault

MAGIC = hashlib.sha256(b"Proxmox Backup Catalog file v1.0").digest()[:8]
LETTERS = {"directory": "d", "file": "f", "symlink": "l", "block device": "b", "char device": "c", "fifo": "p", "socket": "s"}


class Cursor:
    def __init__(self, data, at, end):
        self.data, self.at, self.end = data, at, end

    def byte(self):
        if self.at >= self.end:
            raise Fault(f"the catalog's table ends at {self.end}, within an entry")
        self.at += 1
        return self.data[self.at - 1]

    def take(self, n):
        if n > self.end - self.at:
            raise Fault(f"the catalog's table ends at {self.end}, within an entry")
        self.at += n
        return self.data[self.at - n:self.at]

    def unsigned(self):
        value = 0
        for i in range(10):
            b = self.byte()
            value |= (b & 0x7F) << 7 * i
            if b < 0x80:
                return value
        raise Fault(f"the number before {self.at} has more than 10 bytes")

    def signed(self):
        value = 0
        for i in range(11):
            b = self.byte()
            if b == 0:
                return -value
            value |= (b & 0x7F) << 7 * i
            if b < 0x80:
                return value
        raise Fault(f"the number before {self.at} has more than 11 bytes")


def entries(data):
    """Every entry of a catalog as (path, letter, size, seconds), an archive's name first in its paths, in the order of the archives."""
    if data[:8] != MAGIC:
        raise Fault(f"catalog magic {data[:8].hex()}")
    seen = set()
    stack = [iter(table(data, int.from_bytes(data[-8:], "little"), b"", seen))]
    while stack:
        found = next(stack[-1], None)
        if found is None:
            stack.pop()
            continue
        path, kind, where = found
        if kind != "d":
            yield path, kind, *where
            continue
        yield path, kind, None, None
        stack.append(iter(table(data, where, path, seen)))
    used = sum(n for _, n in seen)
    if used != len(data) - 16:
        raise Fault(f"{len(data) - 16 - used} bytes of the catalog belong to no directory")


def table(data, start, path, seen):
    """The entries of one directory; directories with the place of their table."""
    if not 8 <= start < len(data) - 8:
        raise Fault(f"a directory of the catalog at {start} of {len(data)}")
    c = Cursor(data, start, len(data) - 8)
    size = c.unsigned()
    c.end, head = c.at + size, c.at - start
    if size == 0 or c.end > len(data) - 8:
        raise Fault(f"the table at {start} has {size} bytes")
    if (start, head + size) in seen:
        raise Fault(f"two directories of the catalog share the table at {start}")
    seen.add((start, head + size))
    for _ in range(c.unsigned()):
        kind = chr(c.byte())
        name = c.take(c.unsigned())
        if not name or b"/" in name or b"\0" in name:
            raise Fault(f"name {name!r} in the catalog")
        below = path + b"/" + name if path else name
        if kind == "d":
            back = c.unsigned()
            if not 0 < back <= start - 8:
                raise Fault(f"{below!r} leads {back} bytes back from {start}")
            yield below, kind, start - back
        elif kind == "f":
            yield below, kind, (c.unsigned(), c.signed())
        elif kind in "lhbcps":
            yield below, kind, (None, None)
        else:
            raise Fault(f"{below!r} is of the kind {kind!r}")
    if c.at != c.end:
        raise Fault(f"{c.end - c.at} bytes behind the last entry of the table at {start}")


def wanted(index_name, archive):
    """What a catalog must say of an archive, whose entries are as in pxar.py."""
    for e in archive:
        path = b"/".join(p for p in (index_name.encode(), os.fsencode(e["path"])) if p)
        if e["type"] == "file" and e.get("link", e["path"]) != e["path"]:
            yield path, "h", None, None
        elif e["type"] == "file":
            yield path, "f", e["size"], e["mtime"] // 10**9
        else:
            yield path, LETTERS[e["type"]], None, None


def compare(data, archives):
    """archives are pairs of index name and entries, in the order of the snapshot."""
    want = (w for name, archive in archives for w in wanted(name, archive))
    for got in entries(data):
        w = next(want, None)
        if got != w:
            raise Fault(f"the catalog has {got}, the archive {w}")
    if (w := next(want, None)) is not None:
        raise Fault(f"the catalog lacks {w}")
