"""Recipe → dataset, trial, run, report; bench; study."""

from typing import Literal

Until = Literal["catalog", "pairs", "features", "train", "evaluate", "embed", "index", "neighbours", "report"]
"""The stages of a run, in their order."""
