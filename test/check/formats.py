"""The bytes of a datastore, written from the format's description alone: blobs, indexes, keys, the manifest's signature.

Everything that does not fit raises Fault with a sentence. zstd and openssl are the command-line tools.
"""

import base64
import hashlib
import hmac
import json
import struct
import subprocess
import zlib

from gcm import Gcm

KINDS = {}
for _name, _kind in (
        ("uncompressed blob", (False, False)), ("zstd compressed blob", (False, True)),
        ("encrypted blob", (True, False)), ("zstd compressed encrypted blob", (True, True))):
    KINDS[hashlib.sha256(f"Proxmox Backup {_name} v1.0".encode()).digest()[:8]] = _kind
FIDX = hashlib.sha256(b"Proxmox Backup fixed sized chunk index v1.0").digest()[:8]
DIDX = hashlib.sha256(b"Proxmox Backup dynamic sized chunk index v1.0").digest()[:8]
MAX_PLAIN = 128 << 20
MAX_CHUNK = 16 << 20


class Fault(Exception):
    """Bytes that are not what the format says."""


class Blob:
    """The parsed form of a chunk or .blob file; the CRC has been compared."""

    def __init__(self, raw):
        if len(raw) < 12:
            raise Fault(f"blob of {len(raw)} bytes is too small")
        if raw[:8] not in KINDS:
            raise Fault(f"unknown blob magic {raw[:8].hex()}")
        self.encrypted, self.compressed = KINDS[raw[:8]]
        head = 44 if self.encrypted else 12
        if len(raw) < head:
            raise Fault(f"encrypted blob of {len(raw)} bytes is too small")
        self.iv, self.tag, self.payload = raw[12:28], raw[28:44], raw[head:]
        want, = struct.unpack("<I", raw[8:12])
        got = zlib.crc32(self.payload)
        if got != want:
            raise Fault(f"CRC is {got:08x}, the header says {want:08x}")

    def plain(self, key, limit):
        data = self.payload
        if self.encrypted:
            data = key.gcm().open(self.iv, self.tag, data)
            if data is None:
                raise Fault("the GCM tag does not fit this key")
        if self.compressed:
            data = unzstd(data)
        if len(data) > limit:
            raise Fault(f"decodes to {len(data)} bytes, more than {limit}")
        return data


def unzstd(data):
    p = subprocess.run(["zstd", "-dcq", "--memory=256MB"], input=data, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, check=False)
    if p.returncode != 0:
        raise Fault("zstd: " + p.stderr.decode(errors="replace").strip())
    return p.stdout


class Key:
    """An encryption key: raw 32 bytes, or a key file of any KDF."""

    def __init__(self, raw):
        self.raw = raw
        self.id_key = hashlib.pbkdf2_hmac("sha256", raw, b"_id_key", 10, 32)
        f = hashlib.sha256(b"Proxmox Backup Encryption Key Fingerprint").digest()
        self.fingerprint = ":".join(f"{b:02x}" for b in hashlib.sha256(f + self.id_key).digest())
        self._gcm = None

    def gcm(self):
        if self._gcm is None:
            self._gcm = Gcm(self.raw)
        return self._gcm

    def digest(self, plain):
        return hashlib.sha256(plain + self.id_key).digest()

    def sign(self, message):
        return hmac.new(self.id_key, message, hashlib.sha256).hexdigest()

    @staticmethod
    def from_file(path, password):
        with open(path, encoding="utf-8") as f:
            doc = json.load(f)
        data, kdf = base64.b64decode(doc["data"], validate=True), doc.get("kdf")
        if kdf is not None:
            (name, p), = kdf.items()
            salt = base64.b64decode(p["salt"])
            if name == "Scrypt":
                wrap = hashlib.scrypt(password, salt=salt, n=p["n"], r=p["r"], p=p["p"], maxmem=1 << 30, dklen=32)
            else:
                wrap = hashlib.pbkdf2_hmac("sha256", password, salt, p["iter"], 32)
            data = Gcm(wrap).open(data[:16], data[16:32], data[32:])
            if data is None:
                raise Fault("the password does not open the key file")
        if len(data) != 32:
            raise Fault(f"the key file holds {len(data)} bytes, want 32")
        key = Key(data)
        if doc.get("fingerprint", key.fingerprint) != key.fingerprint:
            raise Fault("the key file's fingerprint is not that of its key")
        return key


class Index:
    """An index of either kind as a list of (digest, plain length)."""

    def __init__(self, name, raw):
        if len(raw) < 4096:
            raise Fault(f"index of {len(raw)} bytes is shorter than its header")
        fixed = name.endswith(".fidx")
        if raw[:8] != (FIDX if fixed else DIDX):
            raise Fault(f"wrong index magic {raw[:8].hex()}")
        body = raw[4096:]
        self.fixed = fixed
        self.csum = hashlib.sha256(body).hexdigest()
        if raw[32:64].hex() != self.csum:
            raise Fault(f"header checksum {raw[32:64].hex()} is not that of the table, {self.csum}")
        self.chunks = self._fixed(raw, body) if fixed else self._dynamic(raw, body)

    def _fixed(self, raw, body):
        self.size, cs = struct.unpack("<QQ", raw[64:80])
        if any(raw[80:4096]):
            raise Fault("reserved bytes of the header are not zero")
        if cs == 0 or cs & cs - 1:
            raise Fault(f"chunk size {cs} is not a power of two")
        count = -(-self.size // cs)
        if count == 0 or len(body) != 32 * count:
            raise Fault(f"{len(body)} bytes of digests for {count} chunks")
        return [(body[32 * i:32 * i + 32], min(cs, self.size - cs * i)) for i in range(count)]

    def _dynamic(self, raw, body):
        if any(raw[64:4096]):
            raise Fault("reserved bytes of the header are not zero")
        if not body or len(body) % 40:
            raise Fault(f"{len(body)} bytes are no table of 40-byte entries")
        chunks, at = [], 0
        for off in range(0, len(body), 40):
            end, = struct.unpack("<Q", body[off:off + 8])
            if end <= at:
                raise Fault(f"entry {off // 40} ends at {end}, behind it is {at}")
            if end - at > MAX_CHUNK:
                raise Fault(f"entry {off // 40} has {end - at} bytes, more than {MAX_CHUNK}")
            chunks.append((body[off + 8:off + 40], end - at))
            at = end
        self.size = at
        return chunks


def canonical(v):
    """Canonical JSON as it is signed: sorted, no spaces, no null."""
    if v is None:
        raise Fault("null in what is signed")
    if isinstance(v, dict):
        return "{" + ",".join(canonical(k) + ":" + canonical(v[k]) for k in sorted(v, key=str.encode)) + "}"
    if isinstance(v, list):
        return "[" + ",".join(map(canonical, v)) + "]"
    if isinstance(v, float):
        raise Fault("a fraction in what is signed")
    return json.dumps(v, ensure_ascii=False)
