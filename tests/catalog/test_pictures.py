"""Every kind of picture a shop has is read as upright RGB; what cannot be read says why."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hostile import scans
from PIL import Image

from tgqformer.catalog import Picture, PictureError, read_picture
from tgqformer.catalog import pictures as pictures_module
from tgqformer.catalog.pictures import ALIKE, check, decode, read_file, resolve

RED, WHITE = (255, 0, 0), (255, 255, 255)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def kinds(data: bytes) -> list[str]:
    """What is unusual of a picture, besides that these here are often of one colour."""
    return [kind for kind, _ in check(data).notes if kind != "blank"]


def close(image: Image.Image, color: tuple[int, int, int], at: tuple[int, int] = (0, 0)) -> bool:
    return bool(np.abs(np.subtract(image.getpixel(at), color)).max() <= 4)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "PPM", "AVIF"])
def test_usual_kinds(kind: str) -> None:
    data = encoded(Image.new("RGB", (20, 10), RED), kind)
    image = decode(data)
    assert (image.mode, image.size) == ("RGB", (20, 10))
    assert close(image, RED)
    assert (check(data).width, check(data).height, kinds(data)) == (20, 10, [])


def test_transparency_lies_over_white() -> None:
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert decode(encoded(clear, "PNG")).getpixel((0, 0)) == WHITE
    assert decode(encoded(Image.new("LA", (4, 4), (0, 0)), "PNG")).getpixel((0, 0)) == WHITE
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    seen = decode(encoded(palette, "PNG", transparency=0))
    assert (seen.getpixel((0, 0)), seen.getpixel((1, 0))) == (WHITE, (0, 0, 255))
    keyed = decode(encoded(Image.new("RGB", (4, 4), RED), "PNG", transparency=RED))
    assert keyed.getpixel((0, 0)) == WHITE


def test_cmyk() -> None:
    data = encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")
    assert kinds(data) == ["cmyk"]
    image = decode(data)
    assert image.mode == "RGB"
    assert image.getpixel((4, 4))[0] > 200 > 60 > image.getpixel((4, 4))[1]


def test_sixteen_bits() -> None:
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    data = encoded(Image.fromarray(ramp), "PNG")
    assert kinds(data) == ["16-bit"]
    grey = np.asarray(decode(data))[..., 0]
    assert np.abs(grey.astype(int) - np.round(ramp / 257)).max() <= 1
    assert kinds(png(4, 4, 16, 2, b"\x00" + b"\x80\x00" * 12)) == ["16-bit"]
    assert decode(png(4, 4, 16, 2, b"\x00" + b"\x80\x00" * 12)).getpixel((0, 0)) == (128, 128, 128)
    deep = encoded(Image.fromarray(np.linspace(-1, 3, 16, dtype=np.float32).reshape(4, 4)), "TIFF")
    assert kinds(deep) == ["16-bit"]
    assert (decode(deep).getpixel((0, 0)), decode(deep).getpixel((3, 3))) == ((0, 0, 0), WHITE)
    flat = encoded(Image.fromarray(np.full((4, 4), 7.0, dtype=np.float32)), "TIFF")
    assert decode(flat).size == (4, 4)


def png(width: int, height: int, depth: int, color: int, line: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    body = zlib.compress(line * min(height, 64))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_upright(orientation: int) -> None:
    upright = Image.new("RGB", (16, 8), WHITE)
    upright.paste(RED, (0, 0, 8, 4))
    stored = {
        1: upright, 2: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 3: upright.rotate(180),
        4: upright.transpose(Image.Transpose.FLIP_TOP_BOTTOM), 5: upright.transpose(Image.Transpose.TRANSPOSE),
        6: upright.rotate(90, expand=True), 7: upright.transpose(Image.Transpose.TRANSVERSE),
        8: upright.rotate(-90, expand=True),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(stored, "PNG", exif=exif)
    assert np.array_equal(np.asarray(decode(data)), np.asarray(upright))
    assert kinds(data) == ([] if orientation == 1 else ["rotated"])


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in (RED, (0, 0, 255), (0, 255, 0))]
    for kind in ("GIF", "WEBP", "PNG"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert kinds(data) == ["animation"], kind
        assert close(decode(data), RED), kind
    pages = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    assert kinds(pages) == ["animation"]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF"])
def test_a_picture_cut_off(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    for work in (check, decode):
        with pytest.raises(PictureError) as caught:
            work(data[: len(data) // 2])
        assert caught.value.kind in ("truncated", "unreadable")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"hello, I am a picture", "not a picture"),
        (b"<!DOCTYPE html><p>404", "HTML page"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b'{"error": "not found"}', "JSON"),
        (bytes(1000), "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not a picture"),
    ],
)
def test_not_a_picture(data: bytes, words: str) -> None:
    with pytest.raises(PictureError, match=words) as caught:
        check(data)
    assert caught.value.kind == "unreadable"


def test_jpegs_of_endless_scans_are_refused() -> None:
    assert decode(scans(3)).size == (48, 40)
    for read in (decode, check):
        with pytest.raises(PictureError, match="scans") as caught:
            read(scans(2000))
        assert caught.value.kind == "bomb"
    file = BytesIO()
    Image.new("RGB", (100, 100), (0xFF, 0xDA, 0xB9)).save(file, "PPM")  # a colour whose bytes look like scans
    assert decode(file.getvalue()).getpixel((5, 5)) == (0xFF, 0xDA, 0xB9)


@pytest.mark.parametrize("side", [9_000, 40_000, 2**31 - 1])
def test_a_bomb_is_refused_before_it_is_decoded(side: int) -> None:
    with pytest.raises(PictureError) as caught:
        check(png(side, side, 8, 2, b"\x00" * 100))
    assert caught.value.kind in ("bomb", "unreadable")
    if side < 100_000:
        assert caught.value.kind == "bomb"


def test_names_stay_inside_the_root(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    root = tmp_path / "photos"
    for name in ("../secret.jpg", "/etc/passwd", "a/../../x.jpg", "../photos2/a.jpg"):
        with pytest.raises(PictureError, match="leads out") as caught:
            resolve(name, root)
        assert caught.value.kind == "escapes"
    assert resolve("a/../b.jpg", root) == root / "b.jpg"
    assert resolve(str(root / "b.jpg"), root) == root / "b.jpg"
    assert resolve("/etc/hostname", None) == Path("/etc/hostname")
    with pytest.raises(PictureError, match="NUL"):
        resolve("a\0b", root)


def test_files_that_are_not_there_or_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("absent.jpg", ".", "x" * 5000):
        with pytest.raises(PictureError) as caught:
            read_file(tmp_path / name)
        assert caught.value.kind == "missing"
    (tmp_path / "big.jpg").write_bytes(bytes(2 << 20))
    monkeypatch.setattr(pictures_module, "MAX_BYTES", 1 << 20)
    with pytest.raises(PictureError, match="2 MB; 1 MB is the limit") as caught:
        read_file(tmp_path / "big.jpg")
    assert caught.value.kind == "too-large"


def test_a_picture_of_nothing() -> None:
    with pytest.raises(PictureError, match="neither bytes nor a path"):
        read_picture(Picture("0"), None)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_broken_exif_does_not_spoil_a_good_picture() -> None:
    data = encoded(Image.new("RGB", (8, 8), RED), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    assert decode(data).size == (8, 8)
    assert check(data).width == 8


@pytest.mark.parametrize("size", [(20, 12), (8, 8), (3, 50), (500, 700), (1, 1)])
def test_a_look_is_the_mean_of_equal_parts(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(buffer := BytesIO(), "PNG")
    many = pixels.repeat(8, axis=0).repeat(8, axis=1).astype(np.float64)  # each part is whole pixels of these
    parts = many.reshape(8, size[1], 8, size[0], 3).mean(axis=(1, 3))
    look = np.frombuffer(check(buffer.getvalue()).look, np.uint8).reshape(8, 8, 3)
    np.testing.assert_allclose(look, parts, atol=2 if max(size) > 100 else 0.51)  # large ones are halved before


@pytest.mark.parametrize("size", [(60, 80), (137, 101), (640, 480)])
def test_a_look_hardly_changes_with_size_quality_and_turn(size: tuple[int, int]) -> None:
    shade = Image.fromarray(np.random.default_rng(1).integers(0, 256, (9, 7, 3), np.uint8))
    photo = shade.resize((900, 1200), Image.Resampling.BICUBIC)
    photo.save(large := BytesIO(), "JPEG", quality=95)
    small = photo.resize(size)
    small.save(thumbnail := BytesIO(), "JPEG", quality=70)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    small.transpose(Image.Transpose.ROTATE_90).save(turned := BytesIO(), "JPEG", quality=70, exif=exif)
    looks = [np.frombuffer(check(one.getvalue()).look, np.uint8).astype(int) for one in (large, thumbnail, turned)]
    assert max(np.abs(looks[0] - other).max() for other in looks[1:]) <= ALIKE
