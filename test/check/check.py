#!/usr/bin/env python3
"""Checks a repository without any of Holdfast's code: python's standard library, zstd and openssl.

    check.py [--keyfile FILE | --key HEX] [--archives] [--json] DIR

Walks the directory and recomputes everything: the layout and its modes, each chunk's name from its content, every CRC, index
checksum, size, manifest entry and signature. Each fault is one line on stdout; notes (what is allowed but worth knowing, as
unreferenced chunks) are on stderr. Exit 0: no fault; 1: faults; 2: wrong usage. The password of a key file is taken from
PBS_ENCRYPTION_PASSWORD; with a key, all that is encrypted or signed must be so by that key. Encrypted content is decrypted only with a key; without one its CRC and header are all that can be
checked, and the last line says how many were. With --archives, file archives are read to their end, item by item, and
catalogs are compared with them.
"""

import argparse
import hashlib
import json
import os
import re
import stat
import sys
import time

import catalog
import pxar
from formats import MAX_CHUNK, MAX_PLAIN, Blob, Fault, Index, Key, canonical

SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._\-]*\Z")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")
ARCHIVE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._\-]*\.([fd]idx|blob)\Z")
OWNER = re.compile(r"[^\s:/\x00-\x1f]+@[A-Za-z0-9_][A-Za-z0-9._\-]*(![A-Za-z0-9_][A-Za-z0-9._\-]*)?\n\Z")
UPID = re.compile(r"UPID:[^:\s]+:[0-9A-F]{8}:[0-9A-F]{8,9}:[0-9A-F]{8,16}:[0-9A-F]{8}:[^:\s]+:[^:\s]*:[^:\s]+:\Z", re.I)
SIGNED = {"backup-type", "backup-id", "backup-time", "files", "signature", "unprotected"}
MAX_DEPTH = 7


class Checker:
    def __init__(self, base, key, archives):
        self.base, self.key, self.archives = base, key, archives
        self.faults, self.notes = [], []
        self.chunks = {}  # digest -> (encrypted, plain length or None)
        self.used = set()
        self.count = {"chunks": 0, "snapshots": 0, "files": 0, "opaque": 0, "chunk-bytes": 0, "archives": 0}

    def fault(self, path, what):
        self.faults.append(f"{os.path.relpath(path, self.base)}: {what}")

    def note(self, path, what):
        self.notes.append(f"{os.path.relpath(path, self.base)}: {what}")

    def run(self):
        self.check_base()
        self.check_chunks()
        self.check_level(self.base, 0)
        for d in sorted(set(self.chunks) - self.used):
            self.note(self.chunk_path(d), "no index names this chunk; garbage collection may remove it")

    # --- layout

    def chunk_path(self, digest):
        h = digest.hex()
        return os.path.join(self.base, ".chunks", h[:4], h)

    def mode(self, path, kind, mode):
        """The status of a path that must be of a kind and mode, or None with a fault."""
        try:
            st = os.lstat(path)
        except OSError as e:
            self.fault(path, "missing" if isinstance(e, FileNotFoundError) else str(e))
            return None
        if stat.S_IFMT(st.st_mode) != kind:
            self.fault(path, "is not a " + ("directory" if kind == stat.S_IFDIR else "regular file"))
            return None
        if stat.S_IMODE(st.st_mode) != mode:
            self.fault(path, f"mode is {stat.S_IMODE(st.st_mode):04o}, want {mode:04o}")
        return st

    def check_base(self):
        st = self.mode(os.path.join(self.base, ".lock"), stat.S_IFREG, 0o644)
        if st and st.st_size:
            self.fault(os.path.join(self.base, ".lock"), f"holds {st.st_size} bytes, should be empty")
        self.mode(os.path.join(self.base, ".chunks"), stat.S_IFDIR, 0o750)
        gc = os.path.join(self.base, ".gc-status")
        if os.path.exists(gc):
            self.mode(gc, stat.S_IFREG, 0o644)
            try:
                json.loads(self.read(gc))
            except ValueError as e:
                self.fault(gc, f"is not JSON: {e}")
        for name in sorted(os.listdir(self.base)):
            if name not in (".lock", ".chunks", ".gc-status", "vm", "ct", "host", "ns"):
                if name.startswith("."):
                    self.note(os.path.join(self.base, name), "a hidden name that the format does not know")
                else:
                    self.fault(os.path.join(self.base, name), "stray")

    def read(self, path):
        with open(path, "rb") as f:
            return f.read()

    # --- chunks

    def check_chunks(self):
        root = os.path.join(self.base, ".chunks")
        have = set(os.listdir(root)) if os.path.isdir(root) else set()
        prefixes = [f"{i:04x}" for i in range(65536)]
        missing = [p for p in prefixes if p not in have]
        if missing:
            self.fault(root, f"{len(missing)} of 65536 directories are missing, the first is {missing[0]}")
        for name in sorted(have - set(prefixes)):
            self.fault(os.path.join(root, name), "stray")
        for prefix in prefixes:
            if prefix in have:
                self.check_chunk_dir(os.path.join(root, prefix), prefix)

    def check_chunk_dir(self, path, prefix):
        if not self.mode(path, stat.S_IFDIR, 0o750):
            return
        for name in sorted(os.listdir(path)):
            file = os.path.join(path, name)
            if re.fullmatch(r"[0-9a-f]{64}", name):
                if name[:4] != prefix:
                    self.fault(file, "is in the wrong directory")
                elif self.mode(file, stat.S_IFREG, 0o644):
                    self.check_chunk(file, bytes.fromhex(name))
            elif re.fullmatch(r"[0-9a-f]{64}\.\d\.bad", name):
                self.fault(file, "a chunk that a verification found corrupt")
            elif ".tmp_" in name:
                self.fault(file, "left-over temporary file")
            else:
                self.fault(file, "stray")

    def check_chunk(self, path, digest):
        self.count["chunks"] += 1
        try:
            raw = self.read(path)
            self.count["chunk-bytes"] += len(raw)
            blob = Blob(raw)
            self.chunks[digest] = (blob.encrypted, None)
            if blob.encrypted and self.key is None:
                self.count["opaque"] += 1
                return
            plain = blob.plain(self.key, MAX_CHUNK)
            self.chunks[digest] = (blob.encrypted, len(plain))
            got = self.key.digest(plain) if blob.encrypted else hashlib.sha256(plain).digest()
            if got != digest:
                self.fault(path, f"its content has the digest {got.hex()}")
        except Fault as e:
            self.chunks.setdefault(digest, (None, None))  # there, and named corrupt already
            self.fault(path, str(e))

    # --- namespaces, groups, snapshots

    def check_level(self, path, depth):
        for kind in ("ct", "host", "vm"):
            top = os.path.join(path, kind)
            if os.path.lexists(top) and self.directory(top):
                for name in sorted(os.listdir(top)):
                    if self.named(os.path.join(top, name), SAFE):
                        self.check_group(os.path.join(top, name), kind, name)
        ns = os.path.join(path, "ns")
        if os.path.lexists(ns) and self.directory(ns):
            for name in sorted(os.listdir(ns)):
                sub = os.path.join(ns, name)
                if not self.named(sub, SAFE):
                    continue
                if depth == MAX_DEPTH:
                    self.fault(sub, f"namespaces nest deeper than {MAX_DEPTH}")
                    continue
                for other in sorted(set(os.listdir(sub)) - {"vm", "ct", "host", "ns"}):
                    self.fault(os.path.join(sub, other), "stray")
                self.check_level(sub, depth + 1)

    def directory(self, path):
        st = os.lstat(path)
        if not stat.S_ISDIR(st.st_mode):
            self.fault(path, "is not a directory")
            return False
        if st.st_mode & 0o022:
            self.fault(path, f"mode {stat.S_IMODE(st.st_mode):04o} lets others write")
        return True

    def named(self, path, pattern):
        if not pattern.match(os.path.basename(path)):
            self.fault(path, "stray")
            return False
        return self.directory(path)

    def check_group(self, path, kind, backup_id):
        names = set(os.listdir(path))
        owner = os.path.join(path, "owner")
        if self.mode(owner, stat.S_IFREG, 0o644) and not OWNER.match(self.read(owner).decode("utf-8", "replace")):
            self.fault(owner, "is not one line user@realm")
        if "notes" in names:
            self.mode(os.path.join(path, "notes"), stat.S_IFREG, 0o644)
        for name in sorted(names - {"owner", "notes"}):
            if self.named(os.path.join(path, name), TIME):
                self.check_snapshot(os.path.join(path, name), kind, backup_id, name)

    def check_snapshot(self, path, kind, backup_id, when):
        self.count["snapshots"] += 1
        names = set(os.listdir(path))
        for name in sorted(names):
            file = os.path.join(path, name)
            if name == ".protected":
                st = self.mode(file, stat.S_IFREG, 0o644)
                if st and st.st_size:
                    self.fault(file, "should be empty")
            elif not ARCHIVE.match(name):
                self.fault(file, "stray")
            else:
                self.mode(file, stat.S_IFREG, 0o644)
        if "index.json.blob" not in names:
            self.fault(path, "unfinished: it has no manifest")
            for name in sorted(n for n in names if ARCHIVE.match(n)):
                self.check_file(os.path.join(path, name), None)
            return
        doc = self.check_manifest(os.path.join(path, "index.json.blob"), kind, backup_id, when)
        listed = {}
        for entry in doc.get("files", []):
            if entry["filename"] in listed:
                self.fault(path, f"the manifest lists {entry['filename']} twice")
            listed[entry["filename"]] = entry
        for name in sorted(set(listed) - names):
            self.fault(os.path.join(path, name), "missing, the manifest lists it")
        for name in sorted(n for n in names if ARCHIVE.match(n)):
            if name == "client.log.blob":
                self.check_log(os.path.join(path, name))
            elif name in listed:
                self.check_file(os.path.join(path, name), listed[name])
            elif name != "index.json.blob":
                self.fault(os.path.join(path, name), "the manifest does not list it")
        if self.archives:
            self.check_archives(path, listed)

    def check_archives(self, path, listed):
        """Every file archive to its end, and the catalog against those of version 1 in the order of the manifest."""
        if self.key is None and any(e["crypt-mode"] == "encrypt" for e in listed.values()):
            return
        repository, first = pxar.Repository(self.base, self.key), []
        for name in listed:
            if not name.endswith((".pxar.didx", ".mpxar.didx")):
                continue
            try:
                found = repository.archive(os.path.relpath(path, self.base), re.sub(r"\.m?pxar\.didx", ".pxar", name))
                if name.endswith(".pxar.didx"):
                    first.append((name, list(found)))
                else:
                    for _ in found:
                        pass
                self.count["archives"] += 1
            except (Fault, OSError) as e:
                self.fault(os.path.join(path, name), str(e))
                return
        try:
            if "catalog.pcat1.didx" in listed:
                index = repository.index(path, "catalog.pcat1.didx")
                catalog.compare(b"".join(repository.pieces(index)), first)
            elif first:
                raise Fault("missing beside archives of version 1")
        except (Fault, OSError) as e:
            self.fault(os.path.join(path, "catalog.pcat1.didx"), str(e))

    # --- manifests

    def check_manifest(self, path, kind, backup_id, when):
        try:
            blob = Blob(self.read(path))
            if blob.encrypted:
                raise Fault("a manifest must not be encrypted")
            doc = json.loads(blob.plain(None, MAX_PLAIN))
            self.check_document(path, doc, kind, backup_id, when)
            return doc
        except (Fault, ValueError, KeyError, TypeError, AttributeError) as e:
            self.fault(path, f"{type(e).__name__}: {e}" if not isinstance(e, Fault) else str(e))
            return {}

    def check_document(self, path, doc, kind, backup_id, when):
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(doc["backup-time"]))
        for key, got, want in (("backup-type", doc["backup-type"], kind), ("backup-id", doc["backup-id"], backup_id),
                               ("backup-time", stamp, when)):
            if got != want:
                self.fault(path, f"{key} is {got}, the directory says {want}")
        for key in sorted(set(doc) - SIGNED):
            self.fault(path, f"unknown field {key} outside unprotected")
        for entry in doc["files"]:
            if set(entry) != {"filename", "crypt-mode", "size", "csum"}:
                self.fault(path, f"fields {sorted(entry)} in a file's entry")
            if not ARCHIVE.match(entry["filename"]) or entry["filename"] in ("index.json.blob", "client.log.blob"):
                self.fault(path, f"lists a file named {entry['filename']!r}")
            if entry["crypt-mode"] not in ("none", "encrypt", "sign-only"):
                self.fault(path, f"crypt-mode {entry['crypt-mode']!r}")
        un = doc.get("unprotected") or {}
        if "verify_state" in un:
            state = un["verify_state"]
            if state.get("state") not in ("ok", "failed") or not UPID.match(state.get("upid", "")):
                self.fault(path, f"verify_state {state} is not a state and a UPID")
            elif state["state"] == "failed":
                self.note(path, "its last verification failed")
        stats = un.get("chunk_upload_stats")
        if stats is not None and set(stats) != {"count", "size", "compressed_size", "duplicates"}:
            self.fault(path, f"chunk_upload_stats has the fields {sorted(stats)}")
        self.check_signature(path, doc, un)

    def check_signature(self, path, doc, un):
        secret = [e["filename"] for e in doc["files"] if e["crypt-mode"] != "none"]
        if doc.get("signature") is None:
            if secret:
                self.fault(path, f"is unsigned, though {secret[0]} is not of crypt-mode none")
            return
        if "key-fingerprint" not in un:
            self.fault(path, "is signed, and names no key fingerprint")
        if self.key is None:
            self.count["opaque"] += 1
            return
        if un.get("key-fingerprint", self.key.fingerprint) != self.key.fingerprint:
            self.fault(path, "is signed by another key")
            return
        signed = {k: v for k, v in doc.items() if k not in ("signature", "unprotected")}
        if self.key.sign(canonical(signed).encode()) != doc["signature"]:
            self.fault(path, "the signature does not fit the content")

    # --- files of a snapshot

    def check_log(self, path):
        try:
            blob = Blob(self.read(path))
            if not blob.encrypted or self.key:
                blob.plain(self.key, MAX_PLAIN)
        except Fault as e:
            self.fault(path, str(e))

    def check_file(self, path, entry):
        """An archive against its manifest entry; None while the snapshot is unfinished."""
        self.count["files"] += 1
        try:
            raw = self.read(path)
            if path.endswith(".blob"):
                size, csum = len(raw), hashlib.sha256(raw).hexdigest()
                self.check_blob(raw)
            else:
                index = Index(path, raw)
                size, csum = index.size, index.csum
                self.check_index(path, index, entry)
        except Fault as e:
            self.fault(path, str(e))
            return
        if entry and entry["size"] != size:
            self.fault(path, f"size is {size}, the manifest says {entry['size']}")
        if entry and entry["csum"] != csum:
            self.fault(path, f"checksum is {csum}, the manifest says {entry['csum']}")

    def check_blob(self, raw):
        blob = Blob(raw)
        if blob.encrypted and self.key is None:
            self.count["opaque"] += 1
        else:
            blob.plain(self.key, MAX_PLAIN)

    def check_index(self, path, index, entry):
        told = set()
        for number, (digest, length) in enumerate(index.chunks):
            self.used.add(digest)
            if digest in told:
                continue
            found = self.chunks.get(digest)
            if found is None:
                problem = "is missing"
            elif found[1] is not None and found[1] != length:
                problem = f"has {found[1]} plain bytes, the index wants {length}"
            elif entry and found[0] is not None and found[0] != (entry["crypt-mode"] == "encrypt"):
                problem = f"is {'' if found[0] else 'not '}encrypted, crypt-mode is {entry['crypt-mode']}"
            else:
                continue
            told.add(digest)
            self.fault(path, f"chunk {number}, {digest.hex()}, {problem}")


def main():
    ap = argparse.ArgumentParser(description="Checks a repository without any of Holdfast's code.")
    ap.add_argument("dir")
    ap.add_argument("--keyfile", help="key file, as written by key create")
    ap.add_argument("--key", help="the raw key as 64 hex digits")
    ap.add_argument("--archives", action="store_true", help="read file archives and catalogs too")
    ap.add_argument("--json", action="store_true", help="faults, notes and counts as one JSON object")
    args = ap.parse_args()
    key = None
    try:
        if args.keyfile:
            key = Key.from_file(args.keyfile, os.environ.get("PBS_ENCRYPTION_PASSWORD", "").encode())
        elif args.key:
            key = Key(bytes.fromhex(args.key))
    except (Fault, OSError, ValueError, KeyError) as e:
        print(f"key: {e}", file=sys.stderr)
        return 2
    if not os.path.isdir(args.dir):
        print(f"{args.dir} is not a directory", file=sys.stderr)
        return 2
    c = Checker(args.dir, key, args.archives)
    c.run()
    if args.json:
        json.dump({"faults": c.faults, "notes": c.notes, "count": c.count}, sys.stdout, indent=1)
        print()
    else:
        for line in c.notes:
            print("note:", line, file=sys.stderr)
        for line in c.faults:
            print("FAULT:", line)
        n = c.count
        print(f"{n['snapshots']} snapshots, {n['files']} archives, {n['chunks']} chunks of {n['chunk-bytes']} bytes;"
              f" {n['opaque']} encrypted items not opened; {len(c.faults)} faults")
    return 1 if c.faults else 0


if __name__ == "__main__":
    sys.exit(main())
