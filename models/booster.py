"""Scores rows with a LightGBM model, through the C interface of its shared library.

LightGBM's Python package is not imported: it brings scipy along, and pandas and scikit-learn where
they are installed (the decision record docs/adr/0007 has the numbers). The library itself is found
in the installed package and called by ctypes; the scores are those of `lightgbm.Booster.predict`,
bit for bit. Nothing is trained here.

The library trusts the text it parses. So it never gets the one from the disk, but one that was made
of what was understood of it (`models.tree_text`): a broken model is an error, never a crash.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
import weakref
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from models.facts import FloatArray
from models.tree_text import rewritten

# Values of LightGBM's c_api.h.
_FLOAT64 = 1
_ROW_MAJOR = 1
_PREDICT_NORMAL = 0
_ALL_ITERATIONS = -1
# One thread: the rows are few, and a second one costs more than it brings (p99 of 10 ms and more
# on 2 cores under load, against 0.2 ms).
_PARAMETERS = b"num_threads=1 verbosity=-1"

_LIBRARY_NAMES = ("lib_lightgbm.so", "lib_lightgbm.dylib")
_LIBRARY_FOLDERS = ("lib", "bin", "")

_LogCallback = ctypes.CFUNCTYPE(None, ctypes.c_char_p)


class NoLightgbmError(Exception):
    """LightGBM is not installed, or its library can't be loaded."""


class BrokenModelError(Exception):
    """A text that is no model for these features."""


class Booster:
    """One model. Immutable; `predict` may be called from any thread."""

    def __init__(self, text: bytes, feature_names: tuple[str, ...]) -> None:
        """Parse LightGBM's native text. Raises BrokenModelError or NoLightgbmError."""
        try:
            safe = rewritten(text, feature_names)
        except ValueError as error:
            raise BrokenModelError(str(error)) from None
        self._width = len(feature_names)
        self._library = shared_library()
        self._handle = ctypes.c_void_p()
        n_iterations = ctypes.c_int()
        status = self._library.LGBM_BoosterLoadModelFromString(
            safe, ctypes.byref(n_iterations), ctypes.byref(self._handle)
        )
        if status != 0:
            raise BrokenModelError(_last_error(self._library))
        weakref.finalize(self, self._library.LGBM_BoosterFree, self._handle)

    def predict(self, matrix: FloatArray) -> FloatArray:
        """Raw scores of rows, shape (n, width) -> (n,). NaN is LightGBM's "unknown".

        ValueError for another shape, RuntimeError if the library refuses.
        """
        if matrix.ndim != 2 or matrix.shape[1] != self._width:
            raise ValueError(f"rows of shape {matrix.shape}: the model knows {self._width} columns")
        rows = np.ascontiguousarray(matrix, dtype=np.float64)
        scores = np.zeros(len(rows), dtype=np.float64)
        n_written = ctypes.c_int64()
        status = self._library.LGBM_BoosterPredictForMat(
            self._handle,
            rows.ctypes.data,
            _FLOAT64,
            len(rows),
            self._width,
            _ROW_MAJOR,
            _PREDICT_NORMAL,
            0,
            _ALL_ITERATIONS,
            _PARAMETERS,
            ctypes.byref(n_written),
            scores.ctypes.data,
        )
        if status != 0 or n_written.value != len(rows):
            raise RuntimeError(f"LightGBM scored {n_written.value}: {_last_error(self._library)}")
        return scores


def library_path() -> Path:
    """Where LightGBM's shared library lies. Raises NoLightgbmError. The package is not imported."""
    spec = importlib.util.find_spec("lightgbm")
    if spec is None or not spec.submodule_search_locations:
        raise NoLightgbmError("lightgbm is not installed: pip install 'odonata[learned]'")
    package = Path(spec.submodule_search_locations[0])
    for folder in _LIBRARY_FOLDERS:
        for name in _LIBRARY_NAMES:
            path = package / folder / name
            if path.is_file():
                return path
    raise NoLightgbmError(f"{package} holds no {_LIBRARY_NAMES[0]}: install lightgbm again")


@cache
def shared_library() -> Any:
    """The library, loaded once. A failure is not remembered: it may be installed meanwhile."""
    path = library_path()
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise NoLightgbmError(f"{path} can't be loaded: {error}") from None
    for name, arguments in _SIGNATURES.items():
        function = getattr(library, name, None)
        if function is None:
            raise NoLightgbmError(f"{path} has no {name}: install lightgbm 4.6 or newer")
        function.argtypes = arguments
        function.restype = ctypes.c_int
    library.LGBM_GetLastError.restype = ctypes.c_char_p
    if "lightgbm" not in sys.modules:
        # Otherwise the package has registered its own, and whoever trains wants to hear it.
        library.LGBM_RegisterLogCallback(_SILENCE)
    return library


def _say_nothing(_message: bytes | None) -> None:
    """By itself the library writes to stdout, which belongs to the program."""


_SILENCE = _LogCallback(_say_nothing)  # kept for as long as the library may call it

_SIGNATURES: dict[str, list[Any]] = {
    "LGBM_BoosterLoadModelFromString": [
        ctypes.c_char_p,
        ctypes.POINTER(ctypes.c_int),
        ctypes.POINTER(ctypes.c_void_p),
    ],
    "LGBM_BoosterFree": [ctypes.c_void_p],
    "LGBM_BoosterPredictForMat": [
        ctypes.c_void_p,  # the booster
        ctypes.c_void_p,  # rows
        ctypes.c_int,  # their type
        ctypes.c_int32,  # how many
        ctypes.c_int32,  # columns
        ctypes.c_int,  # row-major
        ctypes.c_int,  # kind of prediction
        ctypes.c_int,  # first iteration
        ctypes.c_int,  # how many
        ctypes.c_char_p,  # parameters
        ctypes.POINTER(ctypes.c_int64),  # scores written
        ctypes.c_void_p,  # scores
    ],
    "LGBM_RegisterLogCallback": [_LogCallback],
}


def _last_error(library: Any) -> str:
    return (library.LGBM_GetLastError() or b"").decode(errors="replace")
