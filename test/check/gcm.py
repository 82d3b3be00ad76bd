"""AES-256-GCM from the openssl command line's AES-CTR and a GHASH of our own.

openssl enc has no GCM, but GCM is counter mode plus a polynomial hash (NIST SP 800-38D). A 16-byte IV is not used as the
counter itself: the first counter block is GHASH(IV padded || its length in bits).
"""

import subprocess

R = 0xE1 << 120  # x^128 + x^7 + x^2 + x + 1, bit-reflected as GCM writes it


def openssl_ctr(key, counter, data):
    """AES-256-CTR with a 128-bit counter."""
    p = subprocess.run(
        ["openssl", "enc", "-aes-256-ctr", "-K", key.hex(), "-iv", counter.hex(), "-nopad"],
        input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if p.returncode != 0:
        raise OSError("openssl enc: " + p.stderr.decode(errors="replace").strip())
    return p.stdout


def ctr32(key, counter, data):
    """AES-256-CTR as GCM counts: only the last 32 bits, wrapping."""
    out = []
    while data:
        left = (1 << 32) - int.from_bytes(counter[12:], "big")  # blocks before the wrap
        out.append(openssl_ctr(key, counter, data[:16 * left]))
        data = data[16 * left:]
        counter = counter[:12] + bytes(4)
    return b"".join(out)


class GHash:
    """Multiplication by H with one table for each of the 16 byte positions."""

    def __init__(self, h):
        v, powers = int.from_bytes(h, "big"), []
        for _ in range(128):  # powers[i] = H * x^i
            powers.append(v)
            v = v >> 1 ^ (R if v & 1 else 0)
        self.tables = []
        for pos in range(16):
            t = [0] * 256
            for bit in range(8):
                p = powers[8 * pos + bit]
                for low in range(256):
                    if low & 0x80 >> bit:
                        t[low] ^= p
            self.tables.append(t)

    def sum(self, data):
        y, tables = 0, self.tables
        for off in range(0, len(data), 16):
            block = data[off:off + 16].ljust(16, b"\0")
            y = (y ^ int.from_bytes(block, "big")).to_bytes(16, "big")
            acc = 0
            for t, b in zip(tables, y):
                acc ^= t[b]
            y = acc
        return y.to_bytes(16, "big")


class Gcm:
    def __init__(self, key):
        self.key = key
        self.ghash = GHash(openssl_ctr(key, bytes(16), bytes(16)))

    def open(self, iv, tag, ciphertext):
        """The plain bytes, or None when the tag does not fit."""
        pad = lambda b: b + bytes(-len(b) % 16)
        length = lambda b: (8 * len(b)).to_bytes(8, "big")
        if len(iv) == 12:
            j0 = iv + b"\0\0\0\1"
        else:
            j0 = self.ghash.sum(pad(iv) + bytes(8) + length(iv))
        s = self.ghash.sum(pad(ciphertext) + bytes(8) + length(ciphertext))
        mask = openssl_ctr(self.key, j0, bytes(16))
        if bytes(a ^ b for a, b in zip(s, mask)) != tag:
            return None
        first = (int.from_bytes(j0[12:], "big") + 1) % (1 << 32)
        return ctr32(self.key, j0[:12] + first.to_bytes(4, "big"), ciphertext)
