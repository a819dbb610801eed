"""Noise: what shops put on their pictures, drawn with an exact mask, and views of a catalogue with it."""

from tgqformer.synthetic.noise.plan import NoiseKind, NoisePlan, NoiseSpec
from tgqformer.synthetic.noise.render import NOISE_VERSION, Noised, add_noise, moved
from tgqformer.synthetic.noise.view import VIEWS, WHOLE_VIEWS, NoiseView, noise_views, write_view

__all__ = [
    "NOISE_VERSION",
    "VIEWS",
    "WHOLE_VIEWS",
    "NoiseKind",
    "NoisePlan",
    "NoiseSpec",
    "NoiseView",
    "Noised",
    "add_noise",
    "moved",
    "noise_views",
    "write_view",
]
