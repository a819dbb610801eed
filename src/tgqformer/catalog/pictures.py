"""Reading pictures: every kind a shop has, to upright RGB; what cannot be read says why."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from io import BytesIO
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
from PIL import Image, UnidentifiedImageError

from tgqformer.catalog.item import Picture
from tgqformer.errors import TgqError
from tgqformer.types import Bools, Reals, Shades, Vectors

T = TypeVar("T")
_KINDS: dict[str, tuple[int, tuple[bytes, ...]]] = {
    "a HEIC picture, as phones make": (4, (b"ftyphei", b"ftyphev", b"ftypmif", b"ftypmsf")),
    "a JPEG XL picture": (0, (b"\xff\x0a", b"\0\0\0\x0cJXL ")),
    "a PDF": (0, (b"%PDF",)),
    "a Photoshop file": (0, (b"8BPS",)),
    "a video": (4, (b"ftypmp4", b"ftypisom", b"ftypqt")),
    "a camera's raw file": (0, (b"FUJIFILM", b"IIRO")),
}
"""Files that shops have among their pictures and that are not read: name, and where which bytes stand."""
KINDS = "JPEG, PNG, WebP, AVIF or GIF"
"""What is taken from outside: by an upload to the service, or from an address."""
ENDINGS = ("jpg", "png", "webp", "avif", "gif")
_STARTS = {b"\xff\xd8\xff": "jpg", b"\x89PNG\r\n\x1a\n": "png", b"GIF87a": "gif", b"GIF89a": "gif"}
_BEFORE = b"\r\n \t\xef\xbb\xbf"
"""What faulty programs write before a picture."""
_START, _PREFIX = 256, 16
"""So many bytes of a file are read to see what it begins as; Pillow goes by so many."""
MAX_PIXELS = 64_000_000
"""A picture with more pixels than this is refused before it is decoded (a decompression bomb)."""
SCANS, BYTES_A_SCAN = 100, 40_000
"""A JPEG may have so many scans, and one more for so many bytes: each costs a pass over all pixels, and a few bytes."""
MAX_BYTES = 128 << 20
"""A picture file with more bytes than this is refused before it is read."""

ALIKE = 6
"""Of 255: how far the looks of near-identical pictures are apart at most, in any of 8 x 8 places."""
_SHARE, _PLAIN = 0.04, 8
"""And as a whole: so much of how a picture's shades vary, which is taken to be so many at least."""
_NEARLY = 8  # steps of 256 by which the pixels of a picture of one colour may differ: a camera's grain is more
_SIDE = 8  # places a side of a look
_CENTRE = 3 * (_SIDE * _SIDE // 2 + _SIDE // 2)  # where it stands in a look
_LOOKED = 3 * _SIDE  # pixels a side that a picture is looked at with, at least
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
_ANIMATED = frozenset({"GIF", "WEBP", "PNG", "AVIF"})
_ORIENTATION = 0x0112
_TURNS = frozenset({"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"})
_Extrema = tuple[tuple[int, int], ...]
_WAYS = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
_UPRIGHT = {value: Image.Transpose[way] for value, way in enumerate(_WAYS, 2)}
# All that Pillow's decoders were seen to raise on damaged files.
_COMMON_ERRORS = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, EOFError)
_RARE_ERRORS = (RuntimeError, MemoryError, AssertionError, struct.error, zlib.error, Image.DecompressionBombError)
_DECODER_ERRORS = _COMMON_ERRORS + _RARE_ERRORS


class PictureError(TgqError):
    """A picture that cannot be read.

    `kind` is a stable word for counting: missing, unreadable, truncated, bomb, too-large, escapes or remote.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind, self.reason = kind, reason


@dataclass(frozen=True, slots=True)
class PictureCheck:
    """What a full decode of a picture found: its size in pixels as stored, notes as (kind, words), and its look."""

    width: int
    height: int
    notes: tuple[tuple[str, str], ...] = ()
    look: bytes = b""


def read_picture(picture: Picture, root: Path | None) -> Image.Image:
    """Read a picture as RGB: turned upright by its EXIF, first frame of an animation. Transparency is laid over white,
    or over grey where all that is seen is white.

    CMYK, palette, grey and 16-bit pictures are converted.
    Raise PictureError, with the reason, for a picture that is missing or cannot be decoded.
    """
    return decode(picture_bytes(picture, root))


def picture_of(source: str | Path | bytes | Image.Image) -> Picture:
    """Return a picture with its bytes: of a file, of encoded bytes, or of an image, which is encoded as PNG.

    Raise PictureError where a file cannot be read.
    """
    if isinstance(source, Image.Image):
        encoded = BytesIO()
        source.save(encoded, "PNG")
        data = encoded.getvalue()
    else:
        data = source if isinstance(source, bytes) else read_file(Path(source))
    return Picture(Picture.digest_of(data), data=data)


def picture_bytes(picture: Picture, root: Path | None) -> bytes:
    """Return the encoded bytes of a picture, packed or from its file. Raise PictureError where there are none."""
    if picture.data is not None:
        return picture.data
    if picture.path is None:
        raise PictureError("missing", "the picture has neither bytes nor a path")
    return read_file(resolve(picture.path, root))


def resolve(name: str, root: Path | None) -> Path:
    """Return the file that `name` means under the picture root.

    Raise PictureError for a name that leads out of the root, by itself or by a link in it. The root may be a link.
    """
    if "\0" in name:
        raise PictureError("missing", "the file name holds a NUL character")
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        raise PictureError("missing", f"{name!r} is not a name in UTF-8; rename the file")
    base = os.path.abspath(root if root is not None else ".")  # noqa: PTH100 - must not follow links
    full = os.path.abspath(os.path.join(base, name))  # noqa: PTH100, PTH118
    if root is not None and os.path.commonpath([base, full]) != base:
        raise PictureError("escapes", f"{name!r} leads out of the picture folder {base}")
    if root is not None and os.path.realpath(full) != full:  # a link somewhere in it; the root itself may be one
        place = os.path.realpath(base)
        if os.path.commonpath([place, os.path.realpath(full)]) != place:
            raise PictureError("escapes", f"{name!r} is a link that leads out of the picture folder {base}")
    return Path(full)


def read_file(path: Path) -> bytes:
    """Read a picture file. Raise PictureError when it is absent, not a plain file, empty or too large."""
    try:
        if not path.is_file():
            raise PictureError("missing", f"there is no file {path}")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise PictureError("too-large", f"{path} has {size >> 20} MB; {MAX_BYTES >> 20} MB is the limit")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise PictureError("missing", f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def decode(data: bytes, max_pixels: int | None = None) -> Image.Image:
    """Decode encoded picture bytes to upright RGB (see `read_picture`). Raise PictureError."""
    return _guarded(data, lambda image: _rgb(_turned(image)), max_pixels)


def check(data: bytes) -> PictureCheck:
    """Decode a picture fully, only to see whether that is possible, and tell what is unusual. Raise PictureError."""
    return _guarded(data, _examine)


def begins_as_picture(path: Path) -> bool:
    """Say whether a file begins as a picture that is read does, whatever its name; False where it cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(_START).lstrip(_BEFORE)
    except OSError:
        return False
    tests = [Image.OPEN[name][1] for name in _formats()]
    return any(test is not None and test(start[:_PREFIX]) is True for test in tests)


def ending_of(data: bytes) -> str | None:
    """Return the ending of a file of a kind in `KINDS`, by its first bytes, which Pillow goes by too; else None."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    brands = data[8 : min(int.from_bytes(data[:4]), 256)] if data[4:8] == b"ftyp" else b""
    if b"avif" in brands or b"avis" in brands:
        return "avif"
    return next((ending for start, ending in _STARTS.items() if data.startswith(start)), None)


def look_of(data: bytes) -> bytes | None:
    """Return the look of a picture (see `Picture`); None where it cannot be decoded."""
    try:
        return check(data).look
    except PictureError:
        return None


def look_of_image(image: Image.Image) -> bytes:
    """Return the look of a decoded picture."""
    return _means(image, 1, image.size)


def near_identical(looks: Shades, others: Shades) -> Bools:
    """Say which looks [n, 192] are near-identical to `others` [n or 1, 192]: one photo, at whatever size or quality.

    Small things on white differ in few places and by few shades, so shades as a whole (root of the mean square) are
    held against how much each picture varies around its mean colour.
    """
    apart = looks - others
    near = np.asarray(np.abs(apart).max(-1, initial=0) <= ALIKE)
    own, other = _spread(looks[near]), _spread(others[near] if len(others) == len(near) else others)
    vary = np.maximum(np.maximum(own, other), _PLAIN)
    near[near] = np.sqrt(np.square(apart[near], dtype=np.float32).mean(-1)) <= _SHARE * vary
    return near


def _spread(looks: Shades) -> Reals:
    """Return how far the shades of looks [n, 192] are from their mean colour, as the root of the mean square [n]."""
    return np.asarray(np.sqrt(looks.reshape(len(looks), 64, 3).var(1, dtype=np.float32).mean(-1)))


def _guarded(data: bytes, work: Callable[[Image.Image], T], max_pixels: int | None = None) -> T:
    if not data:
        raise PictureError("unreadable", "the picture is empty (0 bytes)")
    if data[0] in _BEFORE:
        data = data.lstrip(_BEFORE)
    scans = data.count(b"\xff\xda") if b"\xff\xd8\xff" in data else 0
    if scans > SCANS + len(data) // BYTES_A_SCAN:
        raise PictureError("bomb", f"a JPEG of {scans} scans, where a real one has a dozen")
    try:
        with Image.open(BytesIO(data), formats=_formats()) as image:
            width, height = image.size
            limit = MAX_PIXELS if max_pixels is None else max_pixels
            if width * height > limit:
                raise PictureError("bomb", f"{width} x {height} pixels; {limit / 1e6:.3g} million is the limit")
            return work(image)
    except UnidentifiedImageError as error:
        raise PictureError("unreadable", _what_else(data)) from error
    except Image.DecompressionBombError as error:
        raise PictureError("bomb", "far more pixels than any real picture has") from error
    except _DECODER_ERRORS as error:
        raise _why(error) from error


def _why(error: BaseException) -> PictureError:
    words = f"{error}" or type(error).__name__
    cut = isinstance(error, EOFError) or any(sign in words.lower() for sign in ("truncated", "unexpected end"))
    if cut:
        return PictureError("truncated", f"the picture is cut off ({words})")
    return PictureError("unreadable", f"the picture is damaged ({words})")


def _what_else(data: bytes) -> str:
    for kind, (place, signs) in _KINDS.items():
        if data[place : place + 8].startswith(signs):
            return f"not a picture that can be read: {kind}; convert it to JPEG or PNG"
    start = data[:256].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html")):
        return "not a picture: an HTML page (often the error page of a download)"
    if b"<svg" in start:
        return "not a picture that can be read: SVG drawings are not supported"
    if start.startswith((b"{", b"[")):
        return "not a picture: JSON text"
    return "not a picture, or of a kind that is not read"


def _examine(image: Image.Image) -> PictureCheck:
    width, height = image.size
    notes = _oddities(image)
    if image.format == "JPEG":
        image.draft(None, (max(width // 8, _LOOKED), max(height // 8, _LOOKED)))  # reads every byte, at less size
    image.load()
    seen = image if _is_plain(image) else _rgb(image)
    look = _means(seen, -(-width // image.width), (width, height))
    if (way := _UPRIGHT.get(_orientation(image))) is not None:
        look = Image.frombytes("RGB", (_SIDE, _SIDE), look).transpose(way).tobytes()
    if _nearly_one(look) and (colour := _one_colour(cast(_Extrema, seen.getextrema()))) is not None:
        notes.append(("blank", f"all of it is {colour}"))
    return PictureCheck(width, height, tuple(notes), look)


def _nearly_one(look: bytes) -> bool:
    """Say whether a look may be that of one colour throughout: means differ by less than pixels do."""
    if abs(look[0] - look[_CENTRE]) > _NEARLY:
        return False
    return all(max(look[n::3]) - min(look[n::3]) <= _NEARLY for n in range(3))


def _means(image: Image.Image, step: int, whole: tuple[int, int]) -> bytes:
    """Return the mean colours of 8 x 8 equal parts of a picture, exactly: a pixel on an edge counts for both sides.

    image: each of its pixels stands for `step` x `step` of the `whole` picture (width, height), fewer at its ends.
    """
    wide, high = (max(1, side // (2 * _LOOKED)) for side in image.size)
    if wide * high > 1:
        image = image.reduce((wide, high))
    pixels = np.frombuffer(image.tobytes(), np.uint8).astype(np.float32).reshape(image.height, -1)
    rows, columns = _shares(image.height, step * high, whole[1]), _shares(image.width, step * wide, whole[0], 3)
    means = rows @ pixels @ columns.T
    return (means + np.float32(0.5)).astype(np.uint8).tobytes()


@lru_cache(1024)
def _shares(count: int, step: int, whole: int, channels: int = 1) -> Vectors:
    """Return the share [8, count] that each of `count` steps has in each of 8 equal parts; rows sum to 1.

    With several channels, of pixels whose channels stand side by side, [8 x channels, count x channels].
    """
    ends, edges = np.minimum(np.arange(count + 1) * step, whole), np.arange(_SIDE + 1) * whole / _SIDE
    covered = np.minimum(edges[1:, None], ends[1:]) - np.maximum(edges[:-1, None], ends[:-1])
    return np.kron(covered.clip(0) * _SIDE / whole, np.eye(channels)).astype(np.float32)


def _one_colour(bounds: _Extrema) -> str | None:
    """Return the colour of a picture whose channels have these bounds, where it is one throughout; else None."""
    if max(high - low for low, high in bounds) > _NEARLY:
        return None
    if min(low for low, _ in bounds) > 250:
        return "white"
    if max(high for _, high in bounds) < 5:
        return "black"
    return "one colour, #" + "".join(f"{(low + high) // 2:02x}" for low, high in bounds)


def _oddities(image: Image.Image) -> list[tuple[str, str]]:
    notes = []
    if image.format in _ANIMATED and getattr(image, "is_animated", False):
        notes.append(("animation", "an animation: its first frame is used"))
    elif image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
        notes.append(("animation", "a file of several pages: the first is used"))
    if image.mode == "CMYK":
        notes.append(("cmyk", "CMYK colours: converted to RGB when read"))
    if image.mode in ("F", "I") or image.mode.startswith("I;16") or _sixteen_bits(image):
        notes.append(("16-bit", "16 or more bits a channel: read as 8 bits"))
    if _orientation(image) in _UPRIGHT:
        notes.append(("rotated", "EXIF says that it is turned: it is turned upright when read"))
    return notes


def _sixteen_bits(image: Image.Image) -> bool:
    return image.format in ("PNG", "TIFF", "PPM") and ";16" in str(getattr(image, "tile", ""))


def _orientation(image: Image.Image) -> int:
    if image.format == "JPEG" and not _TURNS & image.info.keys():
        return 1  # the usual photo of a shop: reading what is not there takes a tenth of all checks
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except _DECODER_ERRORS:  # broken EXIF tells nothing; the picture itself may be fine
        return 1
    return value if isinstance(value, int) else 1


def _turned(image: Image.Image) -> Image.Image:
    way = _UPRIGHT.get(_orientation(image))
    image.load()
    return image.transpose(way) if way is not None else image


def _is_plain(image: Image.Image) -> bool:
    return image.mode == "RGB" and "transparency" not in image.info


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _eight_bits(image).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        seen = image.convert("RGBA")
        paper = Image.new("RGBA", seen.size, "grey" if _is_white(seen) else "white")
        return Image.alpha_composite(paper, seen).convert("RGB")
    return image.convert("RGB") if image.mode != "RGB" else image.copy()


def _is_white(image: Image.Image) -> bool:
    """Say whether what is seen of a transparent picture is white throughout, so that white paper would hide it."""
    pixels = np.asarray(image)
    seen = pixels[pixels[..., 3] > 127][:, :3]
    return bool(len(seen)) and len(seen) < pixels.shape[0] * pixels.shape[1] and int(seen.min()) > 235


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale a deep grey picture: 16-bit integers by their range, anything else by its own range."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    low, high = float(values.min()), float(values.max())
    if image.mode != "F" and low >= 0 and high <= 65535:
        low, high = 0.0, 65535.0
    scaled = (values - low) / max(high - low, 1e-12) * 255
    return Image.fromarray(scaled.round().astype(np.uint8))


@cache
def _formats() -> tuple[str, ...]:
    """Return the formats that this Pillow can read; never those that start other programs (EPS)."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)
