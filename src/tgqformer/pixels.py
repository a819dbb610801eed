"""From a picture to what an encoder takes: one way to make a square, and the processors of Hugging Face. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from PIL import Image, ImageOps

from tgqformer.errors import TgqError

Fit = Literal["pad", "crop"]
"""How a picture becomes square: with white around it, or cut by the encoder's own processor."""
WHITE = (255, 255, 255)
STRIP = 2048
"""Pixels of the longer side of a picture that is more than twice as long as wide, before it is made square."""


def as_rgb(picture: Image.Image) -> Image.Image:
    """Return the picture in RGB; what is transparent becomes white, the background of shop pictures."""
    if picture.mode == "RGB":
        return picture
    if picture.has_transparency_data:
        over = Image.new("RGBA", picture.size, (*WHITE, 255))
        over.alpha_composite(picture.convert("RGBA"))
        return over.convert("RGB")
    return picture.convert("RGB")


def letterbox(picture: Image.Image, size: int | None = None) -> Image.Image:
    """Return a square RGB picture with the whole of `picture` in its middle and white around it.

    Nothing is cut off and nothing is stretched. Shop pictures stand on white, so the border is quiet. With `size`, the
    picture is resized to it (bicubic, antialiased); without, the longer side stays as it is, but for strips: with white
    around it, a picture of 65,000 x 300 pixels would take 12 GB.
    """
    picture = as_rgb(picture)
    longer = max(picture.size)
    if size is None and longer > max(STRIP, 2 * min(picture.size)):
        size = STRIP
    if size is not None and longer != size:
        width, height = (max(1, round(side * size / longer)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    side = size or longer
    return ImageOps.pad(picture, (side, side), color=WHITE) if picture.size != (side, side) else picture


def without_ends(picture: Image.Image) -> Image.Image:
    """Return the middle of a strip: a processor that fits the shorter side would blow it up before it crops."""
    (width, height), most = picture.size, 8 * min(picture.size)
    if max(width, height) <= most:
        return picture
    left, top = max(width - most, 0) // 2, max(height - most, 0) // 2
    return picture.crop((left, top, left + min(width, most), top + min(height, most)))


def read_processor(source: str) -> Any:
    """Read the image processor of a model as its PIL class; raises TgqError where there is none."""
    import transformers

    try:
        config, _ = transformers.ImageProcessingMixin.get_image_processor_dict(source)
    except (OSError, ValueError) as error:
        raise unreadable(source, error) from error
    stored = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    stem = stored.removesuffix("Pil").removesuffix("Fast").replace("FeatureExtractor", "ImageProcessor")
    processor = getattr(transformers, f"{stem}Pil", None) if stem else None
    if processor is None:
        raise TgqError(f"{source!r} names the image processor {stored!r}, which has no PIL form in transformers")
    return processor.from_dict(config)


def unreadable(source: str, error: Exception) -> TgqError:
    """Return the error for a model that cannot be reached or read."""
    reason = str(error).strip().split("\n")[0].rstrip(".")
    needed = "config.json, *.safetensors and the preprocessing or tokenizer files"
    if Path(source).exists():
        what_to_do = f"The folder needs {needed}."
    else:
        what_to_do = f"Give a folder with {needed}; or, with a connection to the hub, fetch it: hf download {source}"
    return TgqError(f"The Hugging Face model {source!r} cannot be read: {reason}. {what_to_do}")
