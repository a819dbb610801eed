"""Rooms and tables to put behind a product: wall, floor, and things that stand about."""

from __future__ import annotations

import numpy as np

from tgqformer.packages import cv2
from tgqformer.synthetic.rgb import rgb
from tgqformer.types import Floats

Color = tuple[float, float, float]

WALLS = rgb("d6cbb8 b0c2c9 96806a 586670 cda890 7a8e70 3a4452 e4be8c 964236 608494 be96a0")
FLOORS = rgb("966840 c49e70 684830 a8a8a2 5c7c3e cebea8 783630 424248")
THINGS = rgb("c63a2e 245c8c e8b434 36784e ece4d4 463832 d27a42 7a5a96 288c8c e296a0")


def room(height: int, width: int, things: int, rng: np.random.Generator) -> Floats:
    """Draw a wall, a floor and `things` objects: float32 [height, width, 3] in [0, 255]."""
    if height < 2:
        return room(2, width, things, rng)[:height]
    horizon = max(1, int(rng.uniform(0.45, 0.72) * height))
    scene = np.empty((height, width, 3), np.float32)
    scene[:horizon] = _wall(horizon, width, rng)
    scene[horizon:] = _floor(height - horizon, width, rng)
    for _ in range(things):
        _thing(scene, horizon, rng)
    # The camera is on the product: what is behind it is a little out of focus.
    softness = float(rng.uniform(0.3, 1.2)) * min(height, width) / 150
    blurred = np.asarray(cv2.GaussianBlur(scene, (0, 0), max(0.3, softness)), np.float32)
    grain = rng.normal(0, 2.5, (height, width)).astype(np.float32)
    blurred += cv2.merge([grain, grain, grain])
    return np.asarray(np.clip(blurred, 0, 255), np.float32)


def _wall(height: int, width: int, rng: np.random.Generator) -> Floats:
    """Plaster, wallpaper stripes, bricks or panels, lit from one side."""
    color = np.array(WALLS[int(rng.integers(len(WALLS)))], np.float32)
    wall = np.ones((height, width), np.float32)
    step = max(3, width // int(rng.integers(5, 12)))
    style = int(rng.integers(4))
    if style == 1:
        wall[:, (np.arange(width) // step) % 2 == 0] *= 0.82
    elif style == 2:
        _bricks(wall, step, rng)
    elif style == 3:
        wall[:, ::step] *= 0.7
        wall[:, 1::step] *= 1.12
    light = np.linspace(1.12, 0.78, width, dtype=np.float32)[:: 1 if rng.random() < 0.5 else -1]
    wall *= light * (1 + 0.05 * _cloud(height, width, 5, rng))
    return _tinted(wall, color)


def _tinted(light: Floats, color: Floats) -> Floats:
    return np.asarray(cv2.merge([light * tone for tone in color]), np.float32)


def _bricks(wall: Floats, step: int, rng: np.random.Generator) -> None:
    height, width = wall.shape
    tall = max(2, step // 2)
    rows = np.arange(height) // tall
    columns = (np.arange(width)[None, :] + (rows[:, None] % 2) * step // 2) // step
    tones = rng.uniform(0.82, 1.12, (rows.max(initial=0) + 1, columns.max(initial=0) + 1)).astype(np.float32)
    wall *= tones[rows[:, None], columns]
    wall[::tall] *= 0.72


def _floor(height: int, width: int, rng: np.random.Generator) -> Floats:
    """Boards, a carpet, tiles or a lawn; nearer is brighter."""
    color = np.array(FLOORS[int(rng.integers(len(FLOORS)))], np.float32)
    # Rows are spaced as seen from above at a slant.
    depth = (np.arange(height, dtype=np.float32) / max(1, height)) ** 0.6
    boards = (depth * int(rng.integers(3, 7))).astype(int)
    tones = rng.uniform(0.84, 1.12, 8).astype(np.float32)
    style = int(rng.integers(3))
    floor = np.ones((height, width), np.float32)
    if style == 0:
        grain = rng.normal(0, 1, (height, max(1, width // 16))).astype(np.float32)
        floor *= tones[boards][:, None] * (1 + 0.05 * cv2.resize(grain, (width, height)))
    elif style == 1:
        floor *= 1 + 0.16 * rng.normal(0, 1, (height, width)).astype(np.float32)
    else:
        slant = (np.arange(width)[None, :] - width / 2) / (0.5 + depth[:, None]) * 8 / max(1, width)
        floor *= np.where((boards[:, None] + np.floor(slant).astype(int)) % 2 == 0, 0.8, 1.08).astype(np.float32)
    return np.asarray(_tinted(floor, color) * (0.72 + 0.4 * depth[:, None, None]), np.float32)


def _cloud(height: int, width: int, cells: int, rng: np.random.Generator) -> Floats:
    """Smooth unevenness of unit spread, [height, width]."""
    return np.asarray(cv2.resize(rng.normal(0, 1, (cells, cells)).astype(np.float32), (width, height)), np.float32)


def _thing(scene: Floats, horizon: int, rng: np.random.Generator) -> None:
    """Put something on the floor or on the wall; oftener at the sides than in the middle."""
    height, width = scene.shape[:2]
    x = int(rng.beta(0.6, 0.6) * width)
    size = max(2, int(min(height, width) * rng.uniform(0.14, 0.3)))
    color = THINGS[int(rng.integers(len(THINGS)))]
    drawers = (_plant, _books, _box, _ball, _painting, _window)
    drawer = drawers[int(rng.integers(len(drawers)))]
    if drawer in (_painting, _window):
        drawer(scene, x, int(rng.uniform(0.1, 0.8) * horizon), size, color, rng)
    else:
        drawer(scene, x, int(horizon + rng.uniform(0.02, 0.9) * (height - horizon)), size, color, rng)


def _plant(scene: Floats, x: int, y: int, size: int, color: Color, rng: np.random.Generator) -> None:
    """Leaves over a pot that stands on (x, y)."""
    for angle in np.linspace(-160, -20, 7) + rng.uniform(-10, 10):
        tip = np.deg2rad(angle)
        center = int(x + 0.6 * size * np.cos(tip)), int(y - 0.55 * size + 0.7 * size * np.sin(tip))
        green = (40 + rng.uniform(0, 50), 105 + rng.uniform(0, 60), 50 + rng.uniform(0, 30))
        cv2.ellipse(scene, center, (max(1, size // 2), max(1, size // 7)), float(angle), 0, 360, green, -1, cv2.LINE_AA)
    pot = [(x - size // 3, y - size // 2), (x + size // 3, y - size // 2), (x + size // 4, y), (x - size // 4, y)]
    cv2.fillPoly(scene, [np.array(pot, np.int32)], color, cv2.LINE_AA)
    cv2.rectangle(scene, (x, y - size // 2), (x + size // 4, y), _dark(color), -1)


def _books(scene: Floats, x: int, y: int, size: int, color: Color, rng: np.random.Generator) -> None:
    """A row of standing books."""
    thick, left = max(1, size // 5), x - size // 2
    for place in range(5):
        tall = int(size * rng.uniform(0.6, 1.0))
        back = color if place == 0 else THINGS[int(rng.integers(len(THINGS)))]
        start = left + place * thick
        cv2.rectangle(scene, (start, y - tall), (start + thick - 1, y), back, -1)
        cv2.line(scene, (start, y - tall), (start, y), _dark(back), 1)


def _box(scene: Floats, x: int, y: int, size: int, color: Color, rng: np.random.Generator) -> None:
    """A box with a lit lid and a shaded side."""
    half, tall = size // 2, int(size * rng.uniform(0.4, 0.8))
    cv2.rectangle(scene, (x - half, y - tall), (x + half, y), color, -1)
    cv2.rectangle(scene, (x + half // 3, y - tall), (x + half, y), _dark(color), -1)
    top, slant = y - tall, size // 6
    lid = [(x - half, top), (x + half, top), (x + half - slant, top - slant), (x - half + slant, top - slant)]
    cv2.fillPoly(scene, [np.array(lid, np.int32)], _light(color), cv2.LINE_AA)


def _ball(scene: Floats, x: int, y: int, size: int, color: Color, rng: np.random.Generator) -> None:
    """A ball with its shadow."""
    radius = max(1, size // 3)
    cv2.ellipse(scene, (x, y), (radius, max(1, radius // 4)), 0, 0, 360, (50, 45, 42), -1, cv2.LINE_AA)
    cv2.circle(scene, (x, y - radius), radius, _dark(color), -1, cv2.LINE_AA)
    cv2.circle(scene, (x - radius // 5, y - radius - radius // 5), max(1, int(radius * 0.72)), color, -1, cv2.LINE_AA)


def _painting(scene: Floats, x: int, y: int, size: int, color: Color, rng: np.random.Generator) -> None:
    """A framed picture of a hill under a sky."""
    half, tall, rim = size // 2, int(size * rng.uniform(0.6, 1.1)), max(1, size // 14)
    cv2.rectangle(scene, (x - half - rim, y - rim), (x + half + rim, y + tall + rim), (62, 46, 34), -1)
    cv2.rectangle(scene, (x - half, y), (x + half, y + tall), (226, 216, 198), -1)
    cv2.rectangle(scene, (x - half, y + tall // 2), (x + half, y + tall), color, -1)
    cv2.circle(scene, (x + half // 3, y + tall // 3), max(1, size // 8), _light(color), -1, cv2.LINE_AA)


def _window(scene: Floats, x: int, y: int, size: int, color: Color, rng: np.random.Generator) -> None:
    """A bright window with a cross and a curtain."""
    half, tall = size // 2, int(size * 1.2)
    cv2.rectangle(scene, (x - half, y), (x + half, y + tall), (216, 234, 246), -1)
    for start, end in (((x, y), (x, y + tall)), ((x - half, y + tall // 2), (x + half, y + tall // 2))):
        cv2.line(scene, start, end, (245, 245, 240), max(1, size // 12))
    edge = x - half if rng.random() < 0.5 else x + half - size // 4
    cv2.rectangle(scene, (edge, y - size // 10), (edge + size // 4, y + tall), color, -1)


def _dark(color: Color) -> Color:
    return color[0] * 0.68, color[1] * 0.68, color[2] * 0.68


def _light(color: Color) -> Color:
    return 0.6 * color[0] + 100, 0.6 * color[1] + 100, 0.6 * color[2] + 100
