# ruff: noqa: E501 - drawings and tables read best unbroken
"""Things to carry and to use: backpacks, handbags, headphones, umbrellas, guitars."""

from __future__ import annotations

from tgqformer.synthetic.studio.palette import shade
from tgqformer.synthetic.studio.sketch import Sketch, oval, rounded


def backpack_classic(s: Sketch) -> None:
    """A school bag with a front pocket."""
    s.tube("M168 72C168 26 232 26 232 72", 13, s.dark)
    start = len(s)
    s.tube("M104 130Q62 170 66 300", 20, s.dark)
    s.mirrored(start)
    s.part("M96 330V150C96 88 140 56 200 56S304 88 304 150V330Q304 358 276 358H124Q96 358 96 330Z", form="round")
    s.line("M116 160C118 106 154 80 200 80S282 106 284 160", "#26262b", 4)
    s.part("M116 226Q116 212 130 212H270Q284 212 284 226V324Q284 344 264 344H136Q116 344 116 324Z", form="down")
    s.line("M128 232H272", "#26262b", 4)
    s.part("M262 232h9v26h-9z", s.metal, form="chrome")
    s.part("M279 158h9v26h-9z", s.metal, form="chrome")
    s.logo(200, 286, 48)


def backpack_rolltop(s: Sketch) -> None:
    """A tall bag whose top is rolled and buckled."""
    start = len(s)
    s.tube("M110 160Q74 190 76 320", 18, s.dark)
    s.mirrored(start)
    s.part("M106 112H294V338Q294 362 270 362H130Q106 362 106 338Z", form="round")
    s.part("M100 84Q200 70 300 84V120Q200 134 100 120Z", shade(s.base, -0.22), form="down")
    s.line("M102 102Q200 90 298 102", s.ink, 2.5)
    s.part("M190 76H210V236H190Z", s.wood, form="round")
    s.part(rounded(180, 196, 40, 30, 5), s.metal, form="chrome")
    s.part("M124 268H276V340Q276 348 266 348H134Q124 348 124 340Z", form="down")
    s.seam("M132 276H268")
    s.logo(246, 312, 34)


def backpack_satchel(s: Sketch) -> None:
    """A rucksack with a flap and two straps."""
    s.tube("M172 66C172 30 228 30 228 66", 12, s.dark)
    s.part(rounded(56, 214, 60, 124, 18), form="soft")
    s.part(rounded(284, 214, 60, 124, 18), form="soft")
    s.part("M90 342V130Q94 70 200 64Q306 70 310 130V342Q310 362 288 362H112Q90 362 90 342Z", form="round")
    s.part("M84 150Q86 62 200 60T316 150V208Q200 244 84 208Z", form="down")
    for x in (142, 242):
        s.part(f"M{x - 2} 130h20v140h-20z", s.wood, form="round")
        s.part(rounded(x - 7, 234, 30, 24, 4), s.metal, form="chrome")
    s.seam("M94 200Q200 232 306 200")
    s.logo(200, 310, 44)


def handbag_tote(s: Sketch) -> None:
    """An open shopper with two long handles."""
    s.tube("M140 180C140 16 260 16 260 180", 11, shade(s.base, -0.4))
    s.part("M76 150H324L344 344Q344 362 326 362H74Q56 362 56 344Z", form="soft")
    s.part("M76 150H324L326 174H74Z", shade(s.base, -0.25), form="side")
    s.tube("M148 190C148 40 252 40 252 190", 11)
    for x in (148, 252):
        s.part(oval(x, 192, 7, 7), s.metal, form="ball")
    s.logo(200, 272, 62)


def handbag_bowling(s: Sketch) -> None:
    """A rounded bag with a zip and short handles."""
    s.tube("M138 170C138 70 262 70 262 170", 13, shade(s.base, -0.35))
    s.part("M52 320C48 220 84 150 140 146H260C316 150 352 220 348 320Q346 352 312 352H88Q54 352 52 320Z", form="ball")
    s.line("M78 204Q120 162 200 162T322 204", "#2a2a2e", 5)
    s.part("M316 196l14 10l-6 24l-12-6z", s.metal, form="chrome")
    for x in (138, 262):
        s.part(rounded(x - 12, 166, 24, 44, 7), shade(s.base, -0.35), form="side")
        s.part(oval(x, 190, 6, 6), "#d9b45a", form="ball")
    s.seam("M66 318Q200 336 334 318")
    s.logo(200, 268, 50)


def handbag_flap(s: Sketch) -> None:
    """A small flap bag on a chain."""
    s.line("M82 190C70 10 330 10 318 190", "#8d7433", 10, dash="2 13")
    s.line("M82 190C70 10 330 10 318 190", "#e2c36b", 7, dash="2 13")
    s.part(rounded(62, 168, 276, 176, 22), form="soft")
    s.part("M60 186Q60 164 84 164H316Q340 164 340 186V224Q326 276 200 286Q74 276 60 224Z", form="down")
    s.part(rounded(180, 264, 40, 36, 9), "#d9b45a", form="chrome")
    s.logo(200, 282, 20, "#4b3a10")
    s.seam("M74 222Q92 264 200 274Q308 264 326 222")


def headphones_over(s: Sketch) -> None:
    """Large cups under a padded band."""
    s.tube("M84 236C66 40 334 40 316 236", 22, s.rubber)
    s.tube("M112 112C160 50 240 50 288 112", 26)
    start = len(s)
    s.part(rounded(104, 206, 44, 128, 20), "#2c2c31", form="round")
    s.part("M66 214Q70 196 92 198Q116 202 116 224V316Q116 338 92 342Q70 344 66 326Q48 270 66 214Z", form="ball")
    s.mirrored(start)
    s.logo(90, 270, 30)


def headphones_dj(s: Sketch) -> None:
    """Round ear cups seen from the side, with a cable."""
    s.tube("M110 300C60 340 120 388 190 372T330 384", 6, "#2c2c31")
    s.tube("M110 220C100 30 300 30 290 220", 18)
    start = len(s)
    s.part(rounded(92, 176, 34, 62, 10), s.metal, form="chrome")
    s.part(oval(112, 256, 66, 70), "#2c2c31", form="ball")
    s.part(oval(106, 256, 56, 60), form="ball")
    s.part(oval(104, 256, 26, 28), shade(s.base, -0.3), form="inner")
    s.mirrored(start)
    s.logo(104, 256, 30)


def headphones_light(s: Sketch) -> None:
    """Small foam pads on a thin metal band."""
    s.tube("M92 240C76 60 324 60 308 240", 8, s.metal)
    start = len(s)
    s.part(rounded(82, 178, 20, 70, 8), form="round", plain=True)
    s.part(oval(114, 268, 40, 56), "#3a3a40", form="ball")
    s.part(oval(96, 268, 32, 50), form="ball")
    s.mirrored(start)
    s.logo(94, 268, 26)


def umbrella_open(s: Sketch) -> None:
    """A wide canopy with a crook handle."""
    s.tube("M200 60V340C200 384 142 382 144 342", 9, s.wood)
    s.part("M196 30h8v24h-8z", s.metal, form="chrome")
    s.part(
        "M24 222C30 110 110 46 200 46S370 110 376 222Q348 196 318 222Q288 192 259 222Q230 192 200 222Q170 192 141 222Q112 192 82 222Q52 196 24 222Z",
        form="ball",
    )
    for d in (
        "M200 46Q124 110 82 222",
        "M200 46Q164 110 141 222",
        "M200 46V222",
        "M200 46Q236 110 259 222",
        "M200 46Q276 110 318 222",
    ):
        s.line(d, s.ink, 2.2, opacity=0.55)


def umbrella_closed(s: Sketch) -> None:
    """Rolled and strapped, standing aslant."""
    s.tube("M300 60C330 14 372 52 342 88L296 140", 14, s.wood)
    s.tube("M92 350L66 380", 6, s.metal)
    s.part("M308 116L318 130C300 210 180 300 86 358Q74 358 78 344C120 240 210 140 308 116Z", form="side")
    s.line("M312 122C220 190 150 270 82 352", s.ink, 2.5, opacity=0.6)
    s.line("M312 118C190 190 130 260 80 348", s.ink, 2, opacity=0.5)
    s.tube("M164 208Q206 214 222 250", 8, s.dark)
    s.part(oval(204, 226, 7, 7), s.metal, form="ball")


def umbrella_parasol(s: Sketch) -> None:
    """A garden parasol on a foot."""
    s.part("M132 352H268L276 372H124Z", "#55585f", form="round")
    s.tube("M200 70V352", 11, s.wood)
    s.part("M200 44L378 176Q366 196 340 200H60Q34 196 22 176Z", form="soft")
    s.part(
        "M22 176Q34 196 60 200H340Q366 196 378 176V198Q364 222 340 224H60Q36 222 22 198Z",
        shade(s.base, -0.2),
        form="down",
    )
    s.line("M200 44L92 200M200 44L156 200M200 44L244 200M200 44L308 200", s.ink, 2.2, opacity=0.5)
    s.part(oval(200, 40, 9, 9), s.wood, form="ball")


def guitar_acoustic(s: Sketch) -> None:
    """A round-hole guitar."""
    _neck(s, 200, 34, 190, 13)
    s.part(
        "M200 158C250 158 262 182 256 206C252 226 262 232 276 254C300 296 276 366 200 366S100 296 124 254C138 232 148 226 144 206C138 182 150 158 200 158Z",
        form="side",
    )
    s.part(oval(200, 236, 27, 27), "#1d1611", form="inner")
    s.line(oval(200, 236, 33, 33), s.finish.second, 4)
    s.part(rounded(166, 304, 68, 13, 4), "#2b1b12", form="side")
    s.part("M190 150H210V214H190Z", "#2b1b12", form="side")
    _strings(s, 200, 48, 308)
    s.part("M236 250Q262 262 256 300Q236 292 228 268Z", shade(s.base, -0.5), form="side")


def guitar_electric(s: Sketch) -> None:
    """Two horns, pickups and knobs."""
    _neck(s, 200, 28, 240, 11)
    s.part(
        "M176 214C172 190 150 186 138 200C118 224 142 246 132 274C116 312 130 368 200 368C268 370 290 318 270 280C256 252 284 228 268 198C256 178 226 190 224 222L216 236H184Z",
        form="side",
    )
    s.part("M158 244Q182 236 190 246H214Q246 236 246 262Q240 322 206 330Q168 326 158 244Z", "#f1ede2", form="side")
    for y in (262, 292):
        s.part(rounded(178, y, 44, 13, 4), "#26262b", form="down")
    s.part(rounded(174, 324, 52, 14, 3), s.metal, form="chrome")
    for x, y in ((246, 306), (240, 334)):
        s.part(oval(x, y, 10, 10), "#26262b", form="ball")
    s.part("M190 150H210V252H190Z", "#2b1b12", form="side")
    _strings(s, 200, 44, 330)


def guitar_ukulele(s: Sketch) -> None:
    """A small guitar with four strings."""
    _neck(s, 200, 66, 210, 11)
    s.part(
        "M200 186C238 186 248 204 244 222C240 238 250 244 260 262C276 300 252 346 200 346S124 300 140 262C150 244 160 238 156 222C152 204 162 186 200 186Z",
        form="ball",
    )
    s.part(oval(200, 248, 21, 21), "#1d1611", form="inner")
    s.part(rounded(172, 298, 56, 11, 4), "#2b1b12", form="side")
    _strings(s, 200, 80, 302, 4)
    s.logo(200, 328, 20)


def _neck(s: Sketch, x: float, top: float, bottom: float, half: float) -> None:
    """Fingerboard, frets, head and pegs."""
    s.part(f"M{x - half} {top + 40}H{x + half}V{bottom}H{x - half}Z", "#4a2f1d", form="round")
    for fret in range(7):
        y = top + 52 + fret * (bottom - top - 70) / 7
        s.line(f"M{x - half} {y:.1f}H{x + half}", "#cfc7b4", 2)
    for y in (top + 8, top + 20, top + 32):
        s.part(rounded(x - half - 15, y - 3, 2 * half + 30, 7, 3), s.metal, form="chrome")
    s.part(
        f"M{x - half - 6} {top - 2}Q{x} {top - 14} {x + half + 6} {top - 2}L{x + half} {top + 42}H{x - half}Z",
        "#4a2f1d",
        form="round",
    )


def _strings(s: Sketch, x: float, top: float, bottom: float, count: int = 6) -> None:
    for at in range(count):
        offset = (at - (count - 1) / 2) * 3.4
        s.line(f"M{x + offset:.1f} {top}V{bottom}", "#efe9da", 0.9)
