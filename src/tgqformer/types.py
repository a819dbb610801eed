"""Types of arrays that many modules share. No other module makes one of its own; a test holds them to it."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike as ArrayLike
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
"""Of whatever type its function says."""
Halves: TypeAlias = NDArray[np.float16]
Floats: TypeAlias = NDArray[np.float32]
Doubles: TypeAlias = NDArray[np.float64]
Reals: TypeAlias = NDArray[np.floating]
"""Of any float type."""
Bytes: TypeAlias = NDArray[np.int8]
Int32s: TypeAlias = NDArray[np.int32]
Ints: TypeAlias = NDArray[np.int64]
Shorts: TypeAlias = NDArray[np.uint16]
Shades: TypeAlias = NDArray[np.int16]
Hashes: TypeAlias = NDArray[np.uint64]
Bools: TypeAlias = NDArray[np.bool_]
Words: TypeAlias = NDArray[np.str_]
Pixels: TypeAlias = NDArray[np.uint8]
Vectors: TypeAlias = NDArray[np.float32]
"""float32 [N, d], a vector a row."""
Positions: TypeAlias = NDArray[np.int64]
"""int64 [n], places of items in a catalogue."""
