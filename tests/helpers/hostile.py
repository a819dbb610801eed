"""Uploads that nobody means well: bombs, polyglots, cut and mutated pictures, broken forms, tricks with names."""

from __future__ import annotations

import gzip
import struct
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

KINDS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
FORM, PAIRS = "multipart/form-data; boundary=XX", "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Upload:
    """A request body with its content type."""

    name: str
    body: bytes
    kind: str = FORM


def picture(kind: str, seed: int = 0, size: tuple[int, int] = (48, 40)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def sent(data: bytes, filename: str = "p.jpg", header: str = "") -> bytes:
    head = f'--XX\r\ncontent-disposition: form-data; name="picture"; filename="{filename}"\r\n{header}\r\n'
    return head.encode("utf-8", "surrogateescape") + data + b"\r\n--XX--\r\n"


def field(name: str, value: bytes) -> bytes:
    return f'--XX\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n'.encode() + value + b"\r\n"


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, *chunks: bytes, rows: bytes = b"") -> bytes:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    body = _chunk(b"IDAT", zlib.compress(rows or b"\0" * 64))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + body + _chunk(b"IEND", b"")


def scans(count: int, size: tuple[int, int] = (48, 40)) -> bytes:
    """A progressive JPEG whose last scan, a few bytes, is there so many times: each is a pass over all pixels."""
    file = BytesIO()
    Image.new("L", size, 128).save(file, "JPEG", progressive=True)
    jpeg = file.getvalue()
    at = jpeg.rindex(b"\xff\xda")
    return jpeg[:at] + jpeg[at:-2] * count + b"\xff\xd9"


def bombs() -> Iterator[tuple[str, bytes]]:
    """Few bytes that want to become many."""
    yield "png, 60000 x 60000", png_of(60_000, 60_000)
    yield "png, 2^31 wide", png_of(2**31 - 1, 2**31 - 1)
    yield "png, all its pixels", png_of(20_000, 20_000, rows=b"\0" * (20_000 * 2501))
    yield "png, 0 x 0", png_of(0, 0)
    text = zlib.compress(b"a" * 80_000_000)
    yield "png, text", png_of(8, 8, _chunk(b"zTXt", b"comment\0\0" + text))
    yield "png, profile", png_of(8, 8, _chunk(b"iCCP", b"profile\0\0" + text))
    yield "png, many chunks", png_of(8, 8, _chunk(b"tEXt", b"a\0b") * 20_000)
    yield "gif, huge canvas", b"GIF89a\xff\xff\xff\xff\xf7\x00\x00" + picture("GIF")[13:]
    frames = [Image.new("P", (16, 16), n % 256) for n in range(600)]
    file = BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=1)
    yield "gif, many frames", file.getvalue()
    jpeg = picture("JPEG")
    at = jpeg.index(b"\xff\xc0")
    yield "jpeg, 65500 x 65500", jpeg[: at + 5] + b"\xff\xdc\xff\xdc" + jpeg[at + 9 :]
    yield "jpeg, endless scans", scans(2000)
    bmp = bytearray(picture("BMP"))
    bmp[18:26] = struct.pack("<ii", 50_000, 50_000)
    yield "bmp, 50000 x 50000", bytes(bmp)
    yield "ppm, 10^9 pixels", b"P6 100000 10000 255\n" + b"\0" * 30
    yield "ppm, endless digits", b"P6 " + b"9" * 100_000
    tiff = bytearray(picture("TIFF"))
    offset = struct.unpack("<I", tiff[4:8])[0]
    count = struct.unpack("<H", tiff[offset : offset + 2])[0]
    tiff[offset + 2 + 12 * count : offset + 6 + 12 * count] = struct.pack("<I", offset)
    yield "tiff, directories in a ring", bytes(tiff)
    tiff = bytearray(picture("TIFF"))
    tiff[offset + 2 + 8 : offset + 2 + 12] = struct.pack("<I", 100_000)
    yield "tiff, 100000 wide", bytes(tiff)
    yield "webp, wide canvas", b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff"
    yield "gzip of zeros", gzip.compress(b"\0" * 20_000_000)


def impostors() -> Iterator[tuple[str, bytes]]:
    """What is no picture, or something else besides."""
    jpeg, gif, png = picture("JPEG"), picture("GIF"), picture("PNG")
    yield "html", b"<!doctype html><script>alert(1)</script>"
    yield "svg", b'<?xml version="1.0"?><!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>'
    yield "eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) (r) file\n"
    yield "pdf", b"%PDF-1.7\n1 0 obj << /Type /Catalog >> endobj"
    yield "zip", b"PK\x03\x04" + b"\0" * 60
    yield "elf", b"\x7fELF\x02\x01\x01" + b"\0" * 90
    yield "json", b'{"picture": "http://127.0.0.1:1/"}'
    yield "wmf", b"\xd7\xcd\xc6\x9a" + b"\0" * 60
    yield "ico", b"\0\0\x01\0\x01\0\xff\xff\0\0\x01\0\x20\0\xff\xff\xff\x7f\x16\0\0\0"
    yield "fits", b"SIMPLE  =                    T" + b" " * 50
    yield "xpm", b"/* XPM */ static char * x[] = {"
    yield "a link", b"http://127.0.0.1:1/latest/meta-data"
    yield "a path", b"/etc/passwd"
    yield "gif and script", b"GIF89a/*" + gif[8:] + b"*/=1;alert(1)"
    yield "jpeg and zip", jpeg + b"PK\x03\x04" + b"\0" * 500
    yield "jpeg and php", jpeg[:20] + b"<?php system($_GET[0]); ?>" + jpeg[20:]
    yield "png and html", png + b"<script>alert(1)</script>"
    yield "png, wrong sum", png[:40] + b"\0\0\0\0" + png[44:]
    yield "only a signature", b"\x89PNG\r\n\x1a\n"
    yield "one byte", b"\xff"
    yield "zeros", b"\0" * 5000
    yield "jpeg, endless markers", b"\xff\xd8" + b"\xff\xe1\x00\x02" * 20_000
    yield "exif that lies", jpeg[:2] + b"\xff\xe1\x00\x10Exif\0\0MM\0*\xff\xff\xff\xf0" + jpeg[2:]


def forms() -> Iterator[Upload]:
    """Broken forms, and tricks with names."""
    good = picture("JPEG")
    for name in (
        "../../../../etc/passwd",
        "/etc/passwd",
        "C:\\..\\x.jpg",
        "x\0.jpg",
        "a" * 100_000,
        "%2e%2e%2f",
        "\u202egpj.x",
    ):
        yield Upload(f"file name {name[:24]!r}", sent(good, name))
    yield Upload("no boundary", sent(good), "multipart/form-data")
    yield Upload("empty boundary", sent(good), 'multipart/form-data; boundary=""')
    yield Upload("long boundary", sent(good), "multipart/form-data; boundary=" + "X" * 5000)
    yield Upload("wrong boundary", sent(good), "multipart/form-data; boundary=YY")
    yield Upload("unknown charset", sent(good), "multipart/form-data; charset=utf-9; boundary=XX")
    yield Upload("base64 said", sent(good, header="content-transfer-encoding: base64\r\n"))
    yield Upload("never ends", sent(good)[:-9])
    yield Upload("ends at once", b"--XX--\r\n")
    yield Upload("empty", b"")
    yield Upload("no name", b"--XX\r\ncontent-disposition: form-data\r\n\r\nx\r\n--XX--\r\n")
    yield Upload("no disposition", b"--XX\r\n\r\nx\r\n--XX--\r\n")
    yield Upload("long part header", sent(good, header="x-long: " + "a" * 500_000 + "\r\n"))
    yield Upload("many part headers", sent(good, header="x: y\r\n" * 20_000))
    yield Upload("many fields", field("title", b"x") * 3000 + b"--XX--\r\n")
    yield Upload("many files", sent(b"x")[:-8] * 1500 + b"--XX--\r\n")
    yield Upload("two pictures", sent(good)[:-8] + sent(good))
    yield Upload("picture as text", field("picture", b"http://127.0.0.1:1/") + b"--XX--\r\n")
    yield Upload("title as file", sent(good).replace(b'"picture"', b'"title"'))
    yield Upload("title of bytes", field("title", bytes(range(256))) + b"--XX--\r\n")
    yield Upload("title of surrogates", field("title", b"\xed\xa0\x80\xed\xbf\xbf") + b"--XX--\r\n")
    yield Upload("large title", field("title", b"x" * 900_000) + b"--XX--\r\n")
    yield Upload("deep attributes", field("attributes", b"[" * 19_000) + b"--XX--\r\n")
    yield Upload("huge number", field("price", b"9" * 5000) + field("title", b"x") + b"--XX--\r\n")
    yield Upload("attributes of numbers", field("attributes", b'{"a": 1e400, "b": NaN}') + b"--XX--\r\n")
    yield Upload("nested", sent(sent(good), header="content-type: multipart/mixed; boundary=XX\r\n"))
    for kind in (
        "application/json",
        "text/xml",
        "image/jpeg",
        "application/x-www-form-urlencoded",
        "",
        "a" * 2000,
        "/;=;",
    ):
        yield Upload(f"as {kind[:24]!r}", good, kind)
    yield Upload(
        "urlencoded", b"title=" + b"%ff" * 3000 + b"&picture=file:///etc/passwd", "application/x-www-form-urlencoded"
    )
    yield Upload("many pairs", b"a=b&" * 30_000, PAIRS)


def mutated(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Real pictures, cut, or with bytes changed, doubled or left out."""
    rng = np.random.default_rng(seed)
    for n in range(count):
        kind = KINDS[n % len(KINDS)]
        data = bytearray(picture(kind, n % 5))
        way = ("cut", "flip", "head", "double", "drop")[n // len(KINDS) % 5]
        at = int(rng.integers(1, len(data)))
        if way == "cut":
            del data[at:]
        elif way == "flip":
            for place in rng.integers(0, len(data), 12):
                data[place] = int(rng.integers(256))
        elif way == "head":
            for place in rng.integers(0, min(64, len(data)), 6):
                data[place] = int(rng.integers(256))
        elif way == "double":
            data[at:at] = data[at // 2 : at]
        else:
            del data[at : at + int(rng.integers(1, 200))]
        yield f"{kind.lower()}, {way} {n}", bytes(data)


def uploads(mutations: int) -> Iterator[Upload]:
    """All of them."""
    yield from forms()
    for name, data in (*bombs(), *impostors(), *mutated(mutations)):
        yield Upload(name, sent(data))


@contextmanager
def watched() -> Iterator[list[str]]:
    """List what other threads open, connect to or start while the block runs, by Python's audit events."""
    seen: list[str] = []
    own, active = threading.get_ident(), True

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if not active or threading.get_ident() == own:
            return
        if event in ("open", "os.listdir", "os.scandir"):
            seen.append(f"{event} {arguments[0]}")
        elif event.startswith(("socket.connect", "socket.getaddrinfo", "subprocess", "os.exec", "os.posix_spawn")):
            seen.append(f"{event} {arguments!r}")

    sys.addaudithook(hook)  # cannot be taken away again; it is silent after the block
    try:
        yield seen
    finally:
        active = False
