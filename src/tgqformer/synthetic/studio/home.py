# ruff: noqa: E501 - drawings and tables read best unbroken
"""Things for the house: mugs, teapots, bottles, vases, lamps, chairs, sofas, cushions."""

from __future__ import annotations

from tgqformer.synthetic.studio.palette import shade
from tgqformer.synthetic.studio.sketch import Sketch, oval, rounded


def mug_straight(s: Sketch) -> None:
    """A cylinder with a round handle."""
    s.tube("M282 165C362 148 364 288 280 276", 24)
    s.part("M112 112V300Q112 338 150 340H250Q288 338 288 300V112Z", form="round")
    _rim(s, 200, 112, 88, 19)
    s.glow("M134 145q-4 80 2 155q12 10 18 2q-8-75-4-155z", 0.5)
    s.logo(226, 300, 34)


def mug_conical(s: Sketch) -> None:
    """Wider at the top, with an angular handle."""
    s.tube("M284 160H338Q350 160 346 175L326 250Q322 262 308 262H268", 20)
    s.part("M98 112L130 325Q133 342 152 342H248Q267 342 270 325L302 112Z", form="round")
    _rim(s, 200, 112, 102, 21)
    s.glow("M122 145q8 80 22 160q12 8 16 2q-14-75-18-160z", 0.5)
    s.logo(200, 305, 32)


def mug_bellied(s: Sketch) -> None:
    """Round as a bowl, low and wide."""
    s.tube("M295 180C372 160 372 300 282 292", 26)
    s.part("M122 130C70 190 70 300 140 336Q200 348 260 336C330 300 330 190 278 130Z", form="ball")
    _rim(s, 200, 130, 78, 17)
    s.glow("M112 200q-14 50 8 95q14 10 18 0q-18-45-8-95z", 0.5)
    s.logo(230, 305, 34)


def teapot_round(s: Sketch) -> None:
    """A ball with a curved spout."""
    s.tube("M108 200C26 165 26 318 114 290", 19)
    s.part("M272 272C330 268 318 196 352 158L382 172C356 214 358 306 268 316Z", form="down")
    s.part("M146 318h104l10 18h-124z", form="round", plain=True)
    s.part(oval(198, 240, 108, 88), form="ball")
    s.part("M138 168Q198 112 258 168Q198 186 138 168Z", form="side", plain=True)
    s.part(oval(198, 130, 15, 13), form="ball", plain=True)
    s.glow("M122 215q14-50 50-58q6 6 2 10q-34 16-40 52z", 0.55)
    s.logo(198, 285, 36)


def teapot_tall(s: Sketch) -> None:
    """A tall pot with a long spout, as for coffee."""
    s.tube("M128 140C40 120 44 296 122 286", 17)
    s.part("M262 270C318 258 312 170 350 116L376 128C350 190 352 300 268 312Z", form="down")
    s.part("M140 120L116 325Q116 346 140 346H256Q280 346 280 325L256 120Z", form="round")
    s.part("M134 122Q140 76 198 74Q256 76 262 122Q198 140 134 122Z", form="side", plain=True)
    s.part(oval(198, 64, 14, 13), form="ball", plain=True)
    s.glow("M142 155q-6 80-12 160q10 6 16 0q4-80 10-160z", 0.5)
    s.logo(198, 300, 34)


def teapot_low(s: Sketch) -> None:
    """A flat pot with a bail handle over the lid."""
    s.tube("M104 206C96 66 300 66 292 206", 12, s.rubber)
    s.part("M282 240C330 236 330 206 350 186L378 200C360 240 352 288 280 292Z", form="down")
    s.part("M86 232C86 196 130 186 198 186S310 196 310 232C310 296 262 326 198 326S86 296 86 232Z", form="ball")
    s.part("M132 190Q198 146 264 190Q198 206 132 190Z", form="side", plain=True)
    s.part(oval(198, 160, 17, 11), form="ball", plain=True)
    s.glow("M106 228q6-24 40-30q6 4 0 8q-24 8-28 30z", 0.5)
    s.logo(198, 292, 32)


def bottle_sport(s: Sketch) -> None:
    """A wide flask with a screw cap and a carrying loop."""
    s.tube("M166 78C166 22 234 22 234 78", 13, s.rubber)
    s.part(rounded(158, 70, 84, 44, 9), "#4a4c54", form="round")
    s.part(
        "M168 112H232C232 136 266 142 266 178V338Q266 364 240 364H160Q134 364 134 338V178C134 142 168 136 168 112Z",
        form="round",
    )
    s.glow("M150 190q-3 80 0 150q8 8 14 0q-4-70-2-150z", 0.5)
    s.logo(200, 250, 46)


def bottle_slim(s: Sketch) -> None:
    """A slender bottle with a wooden stopper."""
    s.part(rounded(178, 34, 44, 42, 8), s.wood, form="round")
    s.part(
        "M180 74H220V112C222 142 258 156 258 196V346Q258 370 234 370H166Q142 370 142 346V196C142 156 178 142 180 112Z",
        form="round",
    )
    s.line("M180 92H220", s.ink, 3, opacity=0.5)
    s.glow("M156 205q-2 70 0 145q7 7 12 0q-3-70-1-145z", 0.6)
    s.logo(200, 262, 40)


def bottle_tumbler(s: Sketch) -> None:
    """A travel tumbler with a straw."""
    s.tube("M216 96L240 18", 9, s.light)
    s.part("M126 84H274L268 112H132Z", "#4a4c54", form="round")
    s.part("M132 112H268L246 352Q244 368 228 368H172Q156 368 154 352Z", form="round")
    s.part("M136 168L264 168L260 204L140 204Z", shade(s.base, -0.35), form="round", edge=0)
    s.glow("M152 214q4 60 12 135q8 6 12 0q-8-70-10-135z", 0.5)
    s.logo(200, 280, 42)


def vase_bulb(s: Sketch) -> None:
    """A round belly under a narrow neck."""
    _sprigs(s, 200, 80)
    s.part(
        "M170 76H230C226 130 236 150 270 176C330 222 306 330 244 350H156C94 330 70 222 130 176C164 150 174 130 170 76Z",
        form="ball",
    )
    _rim(s, 200, 76, 30, 8)
    s.glow("M122 210q-22 46 6 98q14 6 14-2q-22-46-6-94z", 0.5)
    s.logo(200, 326, 26)


def vase_hourglass(s: Sketch) -> None:
    """Wide at the foot and at the lip, narrow between."""
    s.part(
        "M116 74C150 130 166 168 166 204C166 250 130 290 130 330Q130 356 160 358H240Q270 356 270 330C270 290 234 250 234 204C234 168 250 130 284 74Z",
        form="round",
    )
    _rim(s, 200, 74, 84, 18)
    s.glow("M146 110q34 60 34 96q0 44-28 96q10 10 14 0q28-50 28-94q0-40-34-100z", 0.4)
    s.logo(200, 325, 26)


def vase_jug(s: Sketch) -> None:
    """An amphora with two handles."""
    s.tube("M164 116C84 112 84 196 122 210", 14)
    s.tube("M236 116C316 112 316 196 278 210", 14)
    s.part(
        "M160 78H240C238 120 246 140 276 176C310 226 262 316 234 352H166C138 316 90 226 124 176C154 140 162 120 160 78Z",
        form="round",
    )
    _rim(s, 200, 78, 40, 10)
    s.glow("M134 200q-12 40 30 130q10 4 10-4q-34-80-24-130z", 0.45)
    s.logo(200, 318, 24)


def lamp_table(s: Sketch) -> None:
    """A cone of cloth on a turned foot."""
    s.part("M186 200H214L220 300Q250 312 252 340H148Q150 312 180 300Z", s.wood, form="round")
    s.part("M138 340H262L268 356H132Z", s.wood, form="round")
    s.part("M148 58H252L312 212Q200 236 88 212Z", form="soft")
    s.glow("M150 70H250L290 205Q200 222 110 205Z", 0.16, "#fff2b0")
    s.glow("M88 212Q200 236 312 212L308 202Q200 224 92 202Z", 0.5, "#fff0b8")
    s.line("M88 212Q200 236 312 212", s.ink, 2.5)
    s.tube("M250 216V262", 2.5, "#8b8073")
    s.part(oval(250, 266, 5, 5), "#8b8073")


def lamp_desk(s: Sketch) -> None:
    """A jointed arm with a bell."""
    s.part(oval(150, 346, 84, 17), form="round", plain=True)
    s.part(oval(150, 338, 84, 17), form="side", plain=True)
    s.tube("M150 334L110 212L222 112", 10, s.metal)
    s.part(oval(110, 212, 12, 12), "#6b7078", form="ball")
    s.glow("M206 206L330 190L390 372H190Z", 0.2, "#ffe79a")
    s.part("M204 92Q222 70 246 84L338 176Q276 238 200 210Q176 150 204 92Z", form="ball")
    s.part("M200 210C196 196 320 160 338 176C340 196 230 232 200 210Z", "#fff3c4", form="down")
    s.part(oval(216, 98, 12, 12), "#6b7078", form="ball")
    s.logo(246, 138, 28)


def lamp_pendant(s: Sketch) -> None:
    """A dome that hangs from the ceiling."""
    s.tube("M200 0V120", 5, "#3c3c42")
    s.part("M184 108H216L222 140H178Z", s.metal, form="chrome")
    s.part("M178 138H222C300 150 344 220 350 286H50C56 220 100 150 178 138Z", form="ball")
    s.part(oval(200, 286, 150, 24), "#fff1bd", form="up")
    s.part(oval(200, 296, 34, 26), "#fffbe6", form="down", edge=0.8)
    s.glow("M92 262q12-70 76-98q8 6 0 12q-50 30-58 86z", 0.5)
    s.logo(262, 244, 26)


def chair_dining(s: Sketch) -> None:
    """Four legs, a padded seat and a slatted back."""
    for d in ("M132 250V362", "M272 236V340"):
        s.tube(d, 10, s.wood)
    s.part("M118 56L136 50L146 230L128 236Z", s.wood, form="side")
    s.part("M266 52L284 58L280 234L262 228Z", s.wood, form="side")
    s.part("M124 62Q200 38 280 62L279 108Q200 86 127 108Z", form="soft")
    s.part("M130 138Q200 120 278 138L277 170Q200 152 132 170Z", form="soft")
    s.tube("M116 262V374", 12, s.wood)
    s.tube("M292 262V374", 12, s.wood)
    s.tube("M118 322H290", 7, s.wood)
    s.part(
        "M126 218H276Q286 218 290 228L306 262Q308 276 294 278H108Q94 276 98 262L112 228Q116 218 126 218Z", form="down"
    )


def chair_shell(s: Sketch) -> None:
    """A moulded shell on splayed legs."""
    for d in ("M156 270L120 372", "M246 270L282 372", "M180 266L186 352", "M222 266L216 352"):
        s.tube(d, 9, s.wood)
    s.part(
        "M112 70Q116 40 154 42H246Q284 40 288 70C298 130 296 170 288 214L112 214C104 170 102 130 112 70Z", form="round"
    )
    s.part("M92 196Q110 220 130 212H270Q290 220 308 196Q322 240 286 266Q200 292 114 266Q78 240 92 196Z", form="down")
    s.glow("M130 62q-10 60 0 130q10 4 12 0q-10-60-2-128z", 0.45)
    s.logo(252, 74, 22)


def chair_stool(s: Sketch) -> None:
    """A bar stool with a round seat."""
    for d in ("M176 150L160 330", "M224 150L240 330", "M150 150L112 372", "M250 150L288 372"):
        s.tube(d, 11, s.wood)
    s.tube("M132 276H268", 8, s.metal)
    s.tube("M126 306Q200 324 274 306", 7, s.metal)
    s.part("M100 100V128Q100 162 200 162T300 128V100Z", form="round")
    s.part(oval(200, 100, 100, 30), form="side")


def chair_armchair(s: Sketch) -> None:
    """An upholstered armchair."""
    for d in ("M112 330L104 372", "M288 330L296 372"):
        s.tube(d, 12, s.wood)
    s.part("M104 210C92 90 120 62 200 62S308 90 296 210L280 280H120Z", form="soft")
    s.part("M108 238Q200 216 292 238V296H108Z", form="down")
    s.part("M104 292H296V334Q296 344 284 344H116Q104 344 104 334Z", form="soft")
    start = len(s)
    s.part("M62 214Q64 188 92 188Q120 188 122 216V336Q122 346 110 346H76Q62 346 62 334Z", form="soft")
    s.mirrored(start)
    s.seam("M132 110Q200 92 268 110")


def sofa_classic(s: Sketch) -> None:
    """Two seats, rounded arms."""
    _legs(s, (70, 330), 320, 350)
    s.part("M70 128Q72 102 104 102H296Q328 102 330 128V236H70Z", form="soft")
    s.line("M200 104V228", s.ink, 2.5)
    s.part("M66 214H199V268H66Z", form="down")
    s.part("M201 214H334V268H201Z", form="down")
    s.part("M60 264H340V312Q340 324 326 324H74Q60 324 60 312Z", form="soft")
    start = len(s)
    s.part("M24 192Q26 164 52 164Q80 164 82 194V314Q82 326 70 326H38Q26 326 26 314Z", form="soft")
    s.mirrored(start)


def sofa_modern(s: Sketch) -> None:
    """Low and straight, on thin legs."""
    for d in ("M58 300L48 350", "M342 300L352 350"):
        s.tube(d, 8, s.metal)
    s.part(rounded(36, 150, 328, 90, 12), form="soft")
    s.part(rounded(30, 232, 340, 70, 12), form="down")
    s.line("M144 234V268M256 234V268M144 156V230M256 156V230", s.ink, 2)
    s.part(rounded(20, 196, 36, 106, 10), form="soft")
    s.part(rounded(344, 196, 36, 106, 10), form="soft")
    s.part("M70 172L122 164L130 222L78 230Z", s.finish.second, form="side")


def sofa_tufted(s: Sketch) -> None:
    """Rolled arms and buttons."""
    _legs(s, (64, 336), 322, 350)
    s.part("M66 132Q66 96 200 96T334 132V240H66Z", form="down")
    for x, y in (
        (110, 140),
        (155, 132),
        (200, 130),
        (245, 132),
        (290, 140),
        (132, 178),
        (178, 172),
        (222, 172),
        (268, 178),
    ):
        s.line(f"M{x - 13} {y - 11}L{x} {y}L{x + 13} {y - 11}M{x} {y}v14", s.ink, 1.6, opacity=0.6)
        s.part(oval(x, y, 4, 4), s.dark, form="ball", edge=0)
    s.part("M70 222Q200 206 330 222V276H70Z", form="down")
    s.part("M60 270H340V326H60Z", form="soft")
    start = len(s)
    s.part("M42 190H82V328H42Z", form="soft")
    s.part(oval(60, 182, 36, 34), form="ball")
    s.line("M60 182m-18 0a18 17 0 1 1 18 17", s.ink, 2)
    s.mirrored(start)


def cushion_square(s: Sketch) -> None:
    """A filled square with pointed corners."""
    s.part("M58 62Q200 92 342 62Q312 200 342 338Q200 308 58 338Q88 200 58 62Z", form="ball")
    s.seam("M76 82Q200 106 324 82Q298 200 324 318Q200 294 76 318Q102 200 76 82Z")
    s.line("M96 100q22 26 30 44M304 300q-22-26-30-44M304 100q-20 22-28 40", s.ink, 2, opacity=0.35)


def cushion_round(s: Sketch) -> None:
    """A round cushion with a button in the middle."""
    s.part(oval(200, 206, 150, 140), form="ball")
    for dx, dy in ((90, 40), (-90, 40), (60, -90), (-60, -90), (0, 104), (110, -30), (-110, -30)):
        s.line(f"M200 200q{dx / 2} {dy / 2 - 8} {dx} {dy}", s.ink, 2, opacity=0.4)
    s.part(oval(200, 200, 15, 14), s.dark, form="ball")


def cushion_bolster(s: Sketch) -> None:
    """A long cushion with tassels."""
    for x, y in ((44, 132), (44, 284), (356, 132), (356, 284)):
        away = -1 if x < 200 else 1
        s.line(f"M{x} {y}l{22 * away} -14M{x} {y}l{28 * away} 0M{x} {y}l{22 * away} 14", s.dark, 6)
    s.part("M46 130Q200 108 354 130Q368 206 354 284Q200 304 46 284Q32 206 46 130Z", form="ball")
    s.seam("M62 146Q200 126 338 146M62 268Q200 288 338 268")


def _rim(s: Sketch, x: float, y: float, across: float, down: float) -> None:
    s.part(oval(x, y, across, down), shade(s.base, 0.12), form="side")
    s.part(oval(x, y + 1, across * 0.92, down * 0.78), shade(s.base, -0.3), form="inner", edge=0)


def _legs(s: Sketch, places: tuple[int, ...], top: int, bottom: int) -> None:
    for x in places:
        s.part(f"M{x - 11} {top}h22l-5 {bottom - top}h-12z", s.wood, form="round")


def _sprigs(s: Sketch, x: float, y: float) -> None:
    """Dry twigs in a vase."""
    for dx, dy in ((-46, -56), (-8, -66), (38, -58)):
        s.line(f"M{x} {y}q{dx * 0.2} {dy * 0.6} {dx} {dy}", "#8a7444", 2.5)
        for step in (0.55, 0.8, 1.0):
            s.part(oval(x + dx * step, y + dy * step, 6, 9), "#c9b273", form="ball", edge=0.8)
