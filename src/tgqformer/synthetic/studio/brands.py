"""Brands of the studio catalogue and their drawn marks, on a field of 100 x 100 around the origin."""

from __future__ import annotations

LOGOS = {
    "Aldine": '<path d="M0-46L44 40H-44Z" fill="none" stroke="INK" stroke-width="14"/>',
    "Borealis": '<circle r="38" fill="none" stroke="INK" stroke-width="13"/><circle r="13" fill="INK"/>',
    "Corvo": '<path d="M-46 26L46-34L8 44L-4 14Z" fill="INK"/>',
    "Dunmore": '<path d="M-42-40h22v80h-22zM-11-14h22v54h-22zM20-40h22v80h-22z" fill="INK"/>',
    "Elvira": '<path d="M0-46C34-16 34 20 0 46C-34 20-34-16 0-46ZM0-22V46" fill="none" stroke="INK" '
    'stroke-width="11"/>',
    "Fjordhus": '<path d="M-48 6q24-40 48 0t48 0M-48 34q24-40 48 0t48 0" fill="none" stroke="INK" stroke-width="13"/>',
    "Gilda": '<path d="M0-48L12-14L48-14L19 8L30 44L0 22L-30 44L-19 8L-48-14L-12-14Z" fill="INK"/>',
    "Hakone": '<path d="M0-46L40-23V23L0 46L-40 23V-23Z" fill="none" stroke="INK" stroke-width="12"/>'
    '<path d="M-20 0h40" stroke="INK" stroke-width="12"/>',
    "Isarco": '<path d="M8-48L-30 8H-4L-10 48L30-12H4Z" fill="INK"/>',
    "Jonquil": '<path d="M20-40A44 44 0 1 0 20 40A34 34 0 1 1 20-40Z" fill="INK"/><circle cx="22" r="11" fill="INK"/>',
    "Kestrel": '<path d="M-40-40L0 0L-40 40M0-40L40 0L0 40" fill="none" stroke="INK" stroke-width="15"/>',
    "Lumi": '<path d="M0-46V46M-40-23L40 23M-40 23L40-23" fill="none" stroke="INK" stroke-width="13"/>',
}
"""Brand → SVG of its mark; INK stands for the colour."""

LEVEL = dict(zip(LOGOS, (1.1, 1.35, 0.9, 1.6, 1.2, 1.3, 0.8, 1.5, 0.95, 0.75, 1.0, 0.85), strict=True))
"""Brand → what it asks for the same thing, as a factor on the price."""
