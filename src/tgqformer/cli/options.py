"""Options that many commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace what stands there, if `tgq` made it; else nothing is replaced.")
]
