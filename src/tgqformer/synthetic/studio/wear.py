# ruff: noqa: E501 - drawings and tables read best unbroken
"""Things to wear: t-shirts, dresses, sneakers, hats, sunglasses, watches."""

from __future__ import annotations

from tgqformer.synthetic.studio.palette import shade
from tgqformer.synthetic.studio.sketch import Sketch, oval, rounded

_BODY = "M140 66L100 86V352Q200 368 300 352V86L260 66Q200 100 140 66Z"


def shirt_crew(s: Sketch) -> None:
    """Short sleeves, round neck."""
    _sleeves(s)
    s.part(_BODY, form="soft")
    _neck(s, "M140 66Q200 116 260 66L250 60Q200 96 150 60Z")
    _folds(s)
    s.logo(246, 142, 30)


def shirt_vneck(s: Sketch) -> None:
    """Short sleeves, a deep V."""
    _sleeves(s)
    s.part("M140 66L100 86V352Q200 368 300 352V86L260 66L200 152Z", form="soft")
    s.glow("M146 62L200 140L254 62Q200 82 146 62Z", 0.75, shade(s.base, -0.55))
    s.tube("M143 64L200 150L257 64", 7)
    _folds(s)
    s.logo(250, 160, 28)


def shirt_polo(s: Sketch) -> None:
    """A collar and a row of buttons."""
    _sleeves(s)
    s.part(_BODY, form="soft")
    s.part("M188 92H212V166H188Z", form="side", plain=True)
    for y in (112, 132, 152):
        s.part(oval(200, y, 4, 4), "#f4f0e6", form="ball", edge=0.8)
    start = len(s)
    s.part("M146 58L200 94L168 126L128 76Z", shade(s.base, -0.12), form="side")
    s.mirrored(start)
    _folds(s)
    s.logo(252, 138, 28)


def shirt_long(s: Sketch) -> None:
    """Long sleeves with cuffs."""
    start = len(s)
    s.part("M112 78L70 108Q46 190 44 318L82 326Q94 230 118 170Z", form="soft")
    s.part("M43 306L84 314L81 340L42 332Z", shade(s.base, -0.2), form="side")
    s.mirrored(start)
    s.part(_BODY, form="soft")
    _neck(s, "M140 66Q200 112 260 66L250 58Q200 90 150 58Z")
    _folds(s)
    s.logo(246, 142, 30)


def dress_aline(s: Sketch) -> None:
    """A fitted top, a swinging skirt and a belt."""
    s.part("M150 44Q156 76 200 78Q244 76 250 44L272 54Q266 104 252 150H148Q134 104 128 54Z", form="soft")
    s.part("M148 160H252L330 350Q200 384 70 350Z", form="soft")
    for d in ("M170 172Q150 270 118 358", "M200 172V368", "M230 172Q250 270 282 358"):
        s.line(d, s.ink, 2.4, opacity=0.35)
    s.part("M146 148H254V166H146Z", shade(s.base, -0.5), form="round")


def dress_sheath(s: Sketch) -> None:
    """Narrow, with short sleeves."""
    start = len(s)
    s.part("M136 42L92 66L100 124L142 108Z", form="soft")
    s.mirrored(start)
    s.part(
        "M150 36Q200 74 250 36L270 50Q272 110 254 160Q250 190 266 240L272 366H128L134 240Q150 190 146 160Q128 110 130 50Z",
        form="round",
    )
    s.line("M164 160Q170 190 158 230M236 160Q230 190 242 230", s.ink, 2.2, opacity=0.4)
    s.line("M200 366V330", s.ink, 2)


def dress_strap(s: Sketch) -> None:
    """A long summer dress on thin straps, with flounces."""
    s.tube("M158 84L164 26", 5)
    s.tube("M242 84L236 26", 5)
    s.part("M150 84Q176 66 200 86Q224 66 250 84L246 160H154Z", form="soft")
    s.part("M152 156H248L280 246Q200 262 120 246Z", form="soft")
    s.part(
        "M122 240Q200 258 278 240L312 368Q290 360 268 372Q246 360 222 374Q200 362 178 374Q154 360 132 372Q110 360 88 368Z",
        form="soft",
    )
    s.line(
        "M160 180L140 244M200 176V252M240 180L260 244M160 262L140 366M240 262L260 366M200 262V370",
        s.ink,
        2,
        opacity=0.35,
    )


def sneaker_low(s: Sketch) -> None:
    """A court shoe."""
    _sole(s, "M36 282H362Q372 282 370 300Q368 322 346 322H62Q34 322 34 300Z", "#f3f0e8")
    s.part(
        "M46 284C40 240 44 190 52 172Q60 158 78 166L112 184Q140 190 158 164L176 158C206 200 250 226 306 236C350 244 366 260 364 284Z",
        form="down",
    )
    s.part("M290 234C348 242 366 260 364 284H270Q262 252 290 234Z", shade(s.base, -0.16), form="down")
    s.part("M46 284C42 256 42 226 48 200L92 214Q100 250 92 284Z", shade(s.base, -0.3), form="side")
    _laces(s, ((176, 168), (198, 192), (222, 212), (248, 228)))
    s.seam("M104 284Q112 238 150 214")
    s.logo(162, 248, 40)


def sneaker_high(s: Sketch) -> None:
    """A basketball boot."""
    _sole(s, "M44 298H356Q366 298 364 314Q362 334 342 334H66Q42 334 42 314Z", "#f3f0e8")
    s.part(
        "M54 300C52 220 58 130 70 78Q76 66 92 70L164 84Q174 88 174 100L180 168C208 220 262 240 306 250C346 260 360 276 358 300Z",
        form="down",
    )
    s.part("M304 250C346 260 360 276 358 300H276Q268 264 304 250Z", "#f3f0e8", form="down")
    _laces(s, ((156, 106), (160, 134), (166, 162), (182, 190), (204, 214), (232, 232)))
    s.part(oval(108, 172, 30, 30), "#f3f0e8", form="side")
    s.logo(108, 172, 34, "#3a3a40")
    s.seam("M70 284Q120 270 146 214L150 96")


def sneaker_runner(s: Sketch) -> None:
    """A running shoe with a thick, waved sole."""
    _sole(
        s,
        "M24 270Q60 286 120 280T250 286Q330 292 380 262Q384 300 352 322Q300 336 230 326T90 332Q30 334 24 300Z",
        "#eceff2",
    )
    s.part(
        "M34 280C26 236 36 196 40 176Q48 160 68 172Q96 196 132 180Q150 170 160 152L182 148C222 200 262 220 312 230C356 240 374 254 374 268Q330 290 250 284Q150 274 34 280Z",
        form="down",
    )
    s.part("M150 282Q190 250 170 196L192 186Q222 240 204 284Z", s.finish.second, form="side")
    s.part("M96 281Q140 250 130 190L148 176Q176 240 144 281Z", s.finish.second, form="side")
    _laces(s, ((184, 160), (206, 184), (232, 204), (258, 218)))
    s.line("M24 300Q100 318 200 306T380 286", shade(s.base, -0.1), 6)
    s.logo(62, 226, 32)


def hat_cap(s: Sketch) -> None:
    """A baseball cap."""
    s.part("M82 240C78 130 140 82 210 82C286 82 326 150 322 246Q200 214 82 240Z", form="ball")
    s.part(
        "M210 222C300 214 380 240 390 274Q392 290 372 284C310 262 250 260 196 266Q186 240 210 222Z",
        shade(s.base, -0.14),
        form="down",
    )
    s.part("M82 240Q140 222 214 222Q192 240 196 266Q130 262 92 272Q80 262 82 240Z", form="side")
    s.line("M206 84Q170 140 168 226M206 84Q262 120 274 224M206 84Q110 120 100 234", s.ink, 1.8, opacity=0.5)
    s.part(oval(208, 81, 11, 7), form="ball", plain=True)
    s.logo(226, 168, 46)


def hat_beanie(s: Sketch) -> None:
    """A knitted beanie with a bobble."""
    s.part(oval(200, 76, 42, 40), s.finish.second, form="ball")
    for x in range(168, 236, 10):
        s.line(f"M{x} 60q6 16-2 34", shade(s.finish.second, -0.3), 2, opacity=0.5)
    s.part("M84 256C80 160 130 100 200 100S320 160 316 256Z", form="ball")
    s.part("M74 252Q200 232 326 252Q336 290 326 322Q200 342 74 322Q64 290 74 252Z", form="round", plain=True)
    for x in range(90, 320, 15):
        s.line(f"M{x} 253v70", s.ink, 2.2, opacity=0.4)
    s.logo(200, 288, 40)


def hat_fedora(s: Sketch) -> None:
    """A brimmed hat with a band."""
    s.part(oval(200, 268, 172, 46), form="down")
    s.part(
        "M104 262C110 180 116 110 150 100Q182 92 200 112Q218 92 250 100C284 110 290 180 296 262Q200 292 104 262Z",
        form="round",
    )
    s.part("M106 228Q200 256 294 228L296 262Q200 292 104 262Z", shade(s.finish.second, -0.05), form="round")
    s.line("M200 112Q196 140 200 168", s.ink, 3, opacity=0.5)
    s.part("M118 240l30 8l-4 22l-28-8z", shade(s.finish.second, -0.3), form="side")


def hat_bucket(s: Sketch) -> None:
    """A soft bucket hat."""
    s.part("M110 212L132 100Q136 86 152 84H248Q264 86 268 100L290 212Z", form="round")
    s.part("M104 206Q200 226 296 206L352 288Q200 330 48 288Z", form="down")
    s.seam("M94 230Q200 252 306 230M78 254Q200 282 322 254M62 276Q200 310 338 276")
    s.logo(200, 156, 44)


def glasses_round(s: Sketch) -> None:
    """Round lenses in a thin frame."""
    _temples(s)
    for x in (122, 278):
        _lens(s, oval(x, 206, 66, 64), 20)
    s.tube("M190 190Q200 176 210 190", 14)


def glasses_square(s: Sketch) -> None:
    """Thick trapezoid frames."""
    _temples(s)
    start = len(s)
    _lens(s, "M54 160Q54 150 66 150H176Q188 150 187 164L178 240Q174 266 146 266H96Q68 266 64 240Z", 26)
    s.mirrored(start)
    s.tube("M186 172Q200 162 214 172", 15)


def glasses_aviator(s: Sketch) -> None:
    """Drop-shaped lenses, a double bridge."""
    _temples(s)
    start = len(s)
    _lens(s, "M56 164Q56 150 72 150H172Q188 150 186 168C182 230 150 274 110 274C76 272 56 220 56 164Z", 15)
    s.mirrored(start)
    s.tube("M180 156H220", 6)
    s.tube("M184 182Q200 172 216 182", 6)


def glasses_cateye(s: Sketch) -> None:
    """Corners drawn up and out."""
    _temples(s)
    start = len(s)
    _lens(
        s, "M36 138Q60 152 100 152H170Q188 154 186 180C182 230 156 258 118 258C74 258 62 220 60 190Q52 164 36 138Z", 17
    )
    s.mirrored(start)
    s.tube("M184 176Q200 164 216 176", 13)


def watch_round(s: Sketch) -> None:
    """A round dial with hands."""
    _strap(s, 166, 234)
    s.part(rounded(282, 190, 20, 20, 4), s.metal, form="chrome")
    s.part(oval(200, 200, 88, 88), s.metal, form="chrome")
    s.part(oval(200, 200, 72, 72), "#f6f3ea", form="side")
    _dial(s)


def watch_square(s: Sketch) -> None:
    """A square case with rounded corners, hands on a dark dial."""
    _strap(s, 158, 242)
    s.part(rounded(276, 188, 18, 24, 4), s.metal, form="chrome")
    s.part(rounded(118, 116, 164, 168, 34), s.metal, form="chrome")
    s.part(rounded(132, 130, 136, 140, 24), "#1f2228", form="side")
    _dial(s, "#f2f2f2")


def watch_chrono(s: Sketch) -> None:
    """A sports watch with a coloured bezel and small dials."""
    _strap(s, 160, 240)
    for y in (160, 192, 224):
        s.part(rounded(286, y, 18, 14, 3), s.metal, form="chrome")
    s.part(oval(200, 200, 96, 96), s.metal, form="chrome")
    s.part(oval(200, 200, 86, 86), form="ball", plain=True)
    s.part(oval(200, 200, 66, 66), "#1f2228", form="side")
    for x, y in ((178, 200), (222, 200), (200, 226)):
        s.part(oval(x, y, 15, 15), "#3a3e46", form="inner", edge=0.8)
        s.line(f"M{x} {y}l6-8", "#f2f2f2", 2)
    _dial(s, "#f2f2f2")


def _sleeves(s: Sketch) -> None:
    start = len(s)
    s.part("M112 78L64 104Q40 140 28 184L84 206Q96 176 112 158Z", form="soft")
    s.seam("M36 174L86 194")
    s.mirrored(start)


def _neck(s: Sketch, d: str) -> None:
    s.glow("M146 60Q200 74 254 60Q236 98 200 98T146 60Z", 0.75, shade(s.base, -0.55))
    s.part(d, shade(s.base, -0.14), form="side")


def _folds(s: Sketch) -> None:
    for d in (
        "M112 150Q130 190 118 250",
        "M286 160Q272 210 284 270",
        "M150 330Q180 312 210 340",
        "M128 110Q150 126 160 150",
    ):
        s.line(d, s.ink, 3, opacity=0.18)
    s.seam("M102 340Q200 356 298 340")


def _sole(s: Sketch, d: str, color: str) -> None:
    s.part(d, color, form="down")


def _laces(s: Sketch, places: tuple[tuple[int, int], ...]) -> None:
    for x, y in places:
        s.line(f"M{x - 26} {y + 14}L{x + 6} {y - 6}", "#5a5a60", 7)
        s.line(f"M{x - 26} {y + 14}L{x + 6} {y - 6}", "#f7f5ef", 5)


def _temples(s: Sketch) -> None:
    start = len(s)
    s.tube("M58 166Q40 130 62 110L118 96", 13)
    s.mirrored(start)


def _lens(s: Sketch, d: str, width: float) -> None:
    s.part(d, "#2e3238", form="side", edge=0)
    s.glow(d, 0.12, "#88aacc")
    s.tube(d, width)
    s.glow("M88 190L112 168L124 170L92 216Z", 0.35)


def _strap(s: Sketch, left: int, right: int) -> None:
    inset = 12
    s.part(f"M{left} 128L{left + inset} 20Q200 10 {right - inset} 20L{right} 128Z", form="round")
    s.part(f"M{left} 272L{left + inset} 376Q200 396 {right - inset} 376L{right} 272Z", form="round")
    s.seam(f"M{left + 10} 120L{left + inset + 7} 30M{right - 10} 120L{right - inset - 7} 30")
    s.seam(f"M{left + 10} 280L{left + inset + 7} 368M{right - 10} 280L{right - inset - 7} 368")
    for y in (318, 336, 354):
        s.part(oval(200, y, 4, 5), "#2a2a2e", edge=0)


def _dial(s: Sketch, ink: str = "#26262b") -> None:
    for x, y, dx, dy in ((200, 140, 0, 12), (200, 260, 0, -12), (140, 200, 12, 0), (260, 200, -12, 0)):
        s.line(f"M{x} {y}l{dx} {dy}", ink, 5)
    for x, y in ((170, 148), (230, 148), (148, 170), (252, 170), (148, 230), (252, 230), (170, 252), (230, 252)):
        s.part(oval(x, y, 2.6, 2.6), ink, edge=0)
    s.line("M200 200L172 172", ink, 6)
    s.line("M200 200L232 158", ink, 4)
    s.line("M200 200L206 248", "#d8392f", 2)
    s.part(oval(200, 200, 5, 5), "#d8392f", edge=0)
    s.logo(200, 172, 18, ink)
