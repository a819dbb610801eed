"""From a picture to what an encoder takes: one way to make a square, and the processors of Hugging Face. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
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


@dataclass(frozen=True)
class Steps:
    """What most image processors of Hugging Face do, without transformers.

    resize: (height, width), or the shorter side alone; None leaves the size. resample: a number of PIL.
    crop: (height, width), from the middle. scale: of the values, 0 to 255. mean, std: of the three channels.
    """

    resize: tuple[int, ...] | None
    resample: int
    crop: tuple[int, int] | None
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, processor: Any) -> Steps | None:
        """Read the steps off a processor; None where it does more, or anything else, with a picture."""
        about = processor.to_dict()
        asked = about.get("size") or {}
        shorter = (asked["shortest_edge"],) if set(asked) == {"shortest_edge"} else None
        both = (asked["height"], asked["width"]) if set(asked) == {"height", "width"} else shorter
        crop = about.get("crop_size") if about.get("do_center_crop") else None
        scaled, normal = about.get("do_rescale"), about.get("do_normalize")
        found = cls(
            both if about.get("do_resize") else None,
            int(about.get("resample", Image.Resampling.BILINEAR)),
            (crop["height"], crop["width"]) if crop else None,
            float(about["rescale_factor"]) if scaled else 1.0,
            tuple(about["image_mean"]) if normal else (0.0,) * 3,
            tuple(about["image_std"]) if normal else (1.0,) * 3,
        )
        drawn = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 60, 3), dtype=np.uint8))
        for picture in (drawn, drawn.resize((301, 300)), drawn.resize((77, 400))):
            wanted = np.asarray(processor(images=picture)["pixel_values"][0], np.float32)
            own = found(picture)
            if own.shape != wanted.shape or not np.allclose(own, wanted, atol=1e-5):
                return None
        return found

    def __call__(self, picture: Image.Image) -> Any:
        """Turn an RGB picture into float32 [3, h, w]."""
        if self.resize is not None:
            short, long = sorted(picture.size)
            sides = self.resize[::-1]
            if len(sides) == 1:
                sides = tuple(sides[0] if side == short else int(sides[0] * long / short) for side in picture.size)
            picture = picture.resize((sides[0], sides[1]), self.resample)
        if self.crop is not None:
            left, top = (picture.width - self.crop[1]) // 2, (picture.height - self.crop[0]) // 2
            picture = picture.crop((left, top, left + self.crop[1], top + self.crop[0]))
        values = (np.array(picture).astype(np.float64) * self.scale).astype(np.float32)
        normal = (values - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(normal.transpose(2, 0, 1))


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
