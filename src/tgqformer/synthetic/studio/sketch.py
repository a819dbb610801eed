"""The drawing board of the studio: paths with colour, pattern, material, shading and gloss, as SVG."""

from __future__ import annotations

from dataclasses import dataclass

from tgqformer.synthetic.studio.brands import LOGOS
from tgqformer.synthetic.studio.palette import lightness, shade
from tgqformer.synthetic.studio.textures import GRADIENTS, MATERIALS, material_tile, pattern_tile

BOARD = 400
"""Products are drawn on a board of 400 x 400 units."""


@dataclass(frozen=True)
class Finish:
    """What a product is made of: base and second colour (`#rrggbb`), pattern, its scale and turn, material, logo."""

    base: str
    second: str
    pattern: str
    material: str
    logo: str
    scale: float = 1.0
    turn: float = 0.0


class Sketch:
    """A product in the making: parts are drawn back to front.

    Args:
        finish: colours, pattern, material and logo of the parts.
    """

    def __init__(self, finish: Finish) -> None:
        self.finish = finish
        self.base, self.ink = finish.base, shade(finish.base, -0.55)
        self.colours = {
            "base": self.base,
            "second": finish.second,
            "dark": shade(self.base, -0.42),
            "light": shade(self.base, 0.45),
            "ink": self.ink,
            "metal": "#b9bec6",
            "wood": "#a9743f",
            "rubber": "#3a3a40",
        }
        self._parts: list[str] = []

    def part(
        self, d: str, paint: str | None = None, *, form: str = "side", plain: bool = False, edge: float = 1.6
    ) -> None:
        """Draw a closed shape.

        Args:
            d: SVG path data.
            paint: a colour; None: the product's base colour with its pattern and material.
            form: shading gradient (`textures.GRADIENTS`). plain: no pattern. edge: width of the outline (0: none).
        """
        fills = [paint or self.base]
        if paint is None:
            if self.finish.pattern != "plain" and not plain:
                fills.append("url(#pattern)")
            if MATERIALS[self.finish.material].tile:
                fills.append("url(#material)")
        fills.append(f"url(#{form})")
        layers = "".join(f'<path d="{d}" fill="{fill}"/>' for fill in fills)
        outline = shade(paint, -0.5) if paint else self.ink
        if edge:
            layers += f'<path d="{d}" fill="none" stroke="{outline}" stroke-width="{edge}" stroke-linejoin="round"/>'
        self._parts.append(layers)

    def tube(self, d: str, width: float, paint: str | None = None) -> None:
        """Draw a round bar, strap or cable along a path: edge, body and a thin highlight.

        Args:
            d: SVG path data. width: in board units. paint: a colour; None: the base colour, with the pattern.
        """
        color = paint or self.base
        strokes = [(shade(color, -0.5), width + 3, 1.0), (color, width, 1.0)]
        if paint is None and self.finish.pattern != "plain":
            strokes.append(("url(#pattern)", width, 1.0))
        strokes.append((shade(color, 0.5), width * 0.25, 0.7))
        for stroke, wide, opacity in strokes:
            self._parts.append(
                f'<path d="{d}" fill="none" stroke="{stroke}" stroke-width="{wide:.1f}" stroke-opacity="{opacity}" '
                'stroke-linecap="round" stroke-linejoin="round"/>'
            )

    def line(
        self, d: str, color: str | None = None, width: float = 2.0, *, dash: str = "", opacity: float = 1.0
    ) -> None:
        """Draw a seam, a string or a fold."""
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self._parts.append(
            f'<path d="{d}" fill="none" stroke="{color or self.ink}" stroke-width="{width}" '
            f'stroke-opacity="{opacity}" stroke-linecap="round" stroke-linejoin="round"{dashed}/>'
        )

    def seam(self, d: str) -> None:
        """Draw a row of stitches."""
        color = shade(self.base, 0.5 if lightness(self.base) < 0.5 else -0.45)
        self.line(d, color, 1.8, dash="5 4", opacity=0.85)

    def glow(self, d: str, opacity: float = 0.35, color: str = "#ffffff") -> None:
        """Lay light (or, with a dark colour, shadow) over what is drawn so far, as strong as the material shines."""
        strength = opacity * (MATERIALS[self.finish.material].gloss if color == "#ffffff" else 1.0)
        self._parts.append(f'<path d="{d}" fill="{color}" fill-opacity="{strength:.2f}"/>')

    def logo(self, x: float, y: float, size: float, color: str | None = None) -> None:
        """Put the brand's mark, centred at (x, y), `size` units wide."""
        ink = color or ("#ffffff" if lightness(self.base) < 0.55 else "#26262b")
        mark = LOGOS[self.finish.logo].replace("INK", ink)
        self._parts.append(f'<g transform="translate({x} {y}) scale({size / 100:.3f})">{mark}</g>')

    def mirrored(self, start: int) -> None:
        """Draw every part since `start` (a former `len(sketch)`) once more, mirrored at the board's middle."""
        copies = "".join(self._parts[start:])
        self._parts.append(f'<g transform="matrix(-1 0 0 1 {BOARD} 0)">{copies}</g>')

    def __len__(self) -> int:
        return len(self._parts)

    def svg(self, size: int, transform: str, box: tuple[float, float, float, float]) -> str:
        """Return the SVG document: transparent, `size` pixels square, showing `box` (x, y, width, height)."""
        view = " ".join(f"{value:.2f}" for value in box)
        defs = GRADIENTS + pattern_tile(self.finish.pattern, self.finish.second, self.finish.scale, self.finish.turn)
        defs += material_tile(self.finish.material)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{size}" height="{size}" viewBox="{view}">'
            f'<defs>{defs}</defs><g transform="{transform}">{"".join(self._parts)}</g></svg>'
        )


def oval(x: float, y: float, across: float, down: float) -> str:
    """Path of an ellipse around (x, y) with half-axes `across` and `down`."""
    return f"M{x - across} {y}a{across} {down} 0 1 0 {2 * across} 0a{across} {down} 0 1 0 {-2 * across} 0Z"


def rounded(x: float, y: float, width: float, height: float, radius: float) -> str:
    """Path of a rectangle with rounded corners, (x, y) its upper left."""
    r = radius
    return (
        f"M{x + r} {y}h{width - 2 * r}q{r} 0 {r} {r}v{height - 2 * r}q0 {r} {-r} {r}h{2 * r - width}q{-r} 0 {-r} {-r}"
        f"v{2 * r - height}q0 {-r} {r} {-r}Z"
    )
