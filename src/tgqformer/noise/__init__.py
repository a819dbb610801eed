"""Noise: what shops put on their pictures, drawn with an exact mask, and views of a catalogue that wear it."""

from tgqformer.noise.plan import Kind, NoisePlan, NoiseSpec
from tgqformer.noise.render import NOISE_VERSION, Noised, add_noise, moved
from tgqformer.noise.view import NoiseView, write_view

__all__ = ["NOISE_VERSION", "Kind", "NoisePlan", "NoiseSpec", "NoiseView", "Noised", "add_noise", "moved", "write_view"]
