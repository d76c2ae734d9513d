"""Tables in binary files: Parquet, NPZ and MAT, none of which may run code or unpack to more than was declared."""

from __future__ import annotations

import io
import json
import math
import signal
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from physid.arrays import Array
from physid.door import factor, most
from physid.errors import InputError, MissingError
from physid.reading import matfile
from physid.reading.table import INEXACT, LARGEST, Cells, RawTable, columns_of, too_large

NUMERIC = "biuf"
LONGEST = 120.0  # seconds for which a MAT file is read
MAT_NUMBERS = ("double", "single", "logical", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def read_parquet(path: Path, data: bytes) -> RawTable:
    """The table in a Parquet file, which pyarrow reads.

    Errors: MissingError without pyarrow; InputError for what is no Parquet file, too large, or not a flat table.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise MissingError(
            f"{path}: reading Parquet needs pyarrow, which is not installed. pip install 'physid[parquet]', or save "
            "the table as CSV."
        ) from None
    try:
        with parquet.ParquetFile(io.BytesIO(data)) as file:
            about = file.metadata
            if 8 * about.num_rows * about.num_columns > most(LARGEST):
                raise too_large(path, 8 * about.num_rows * about.num_columns)
            headers = file.schema_arrow.names
            twice = next((name for name in headers if headers.count(name) > 1), None)
            if twice is not None:
                raise InputError(f"{path}: two columns are called '{twice}'. Rename one of them.")
            table = file.read()
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is no whole Parquet file: {_short(error)}. Save it again.") from None
    if not table.num_rows:
        raise InputError(f"{path} has columns and no rows. Save the data again.")
    names, cells = [], []
    for name in table.column_names:
        if name.startswith("__index_level_"):
            continue  # a nameless pandas index
        names.append(name)
        cells.append(_arrow_cells(path, name, table.column(name), pa))
    return RawTable(path, "parquet", columns_of(path, names, cells))


def _arrow_cells(path: Path, name: str, column: Any, pa: Any) -> Cells:
    """The cells of an Arrow column: numbers with not-a-number for null, or text."""
    kind = column.type
    if pa.types.is_integer(kind):
        gaps = np.array(column.is_null().to_numpy(zero_copy_only=False), dtype=bool)
        return np.where(gaps, np.nan, _exact(path, name, np.asarray(column.fill_null(0).to_numpy())))
    if pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return np.array(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    if pa.types.is_decimal(kind):
        return np.array(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":  # Python's own dates end at microseconds
        stamps = column.cast(pa.timestamp("ns")).cast(pa.string())
        return np.array(["" if cell is None else str(cell) for cell in stamps.to_pylist()], dtype=object)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_timestamp(kind):
        return np.array(["" if cell is None else str(cell) for cell in column.to_pylist()], dtype=object)
    raise InputError(f"{path}, column '{name}' is of type {kind}: expected numbers or text. Save the column as such.")


def _exact(path: Path, name: str, values: Any) -> Array:
    """Integers [T] as numbers of 64 bits; InputError for one that none of them is."""
    found = np.asarray(values, dtype=np.float64)
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        # 2^63 and 2^64 are no integers of their type, and those that round to them are lost
        low, high = np.iinfo(values.dtype).min, float(np.iinfo(values.dtype).max)
        inside = found < high
        lost = ~inside | (np.where(inside, found, low).astype(values.dtype) != values)
        if lost.any():
            row = int(np.argmax(lost))
            raise InputError(f"{path}, column '{name}', row {row + 1}: {values[row]} {INEXACT}")
    return found


def read_npz(path: Path, data: bytes) -> RawTable:
    """The arrays of an NPZ file as columns; see `_table`. What `physid simulate --out FILE.npz` writes is understood.

    Errors: InputError for what is no archive of plain arrays; nothing is ever unpickled.
    """
    arrays: dict[str, Any] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [one for one in archive.infolist() if one.filename.endswith(".npy")]
            size = sum(one.file_size for one in members)
            if size > most(LARGEST):
                raise too_large(path, size)
            for one in members:
                with archive.open(one) as file:
                    arrays[one.filename.removesuffix(".npy")] = _npy(path, one, file)
    except InputError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        raise InputError(f"{path} is no whole NPZ file: {_short(error)}. Save it again with numpy.savez.") from None
    if not arrays:
        raise InputError(f"{path} is a ZIP archive without arrays. Save it with numpy.savez, or give its real suffix.")
    if {"times", "observations", "channels"} <= set(arrays):
        arrays = _simulated(path, arrays)
    return _table(path, "npz", arrays)


def _npy(path: Path, member: zipfile.ZipInfo, file: IO[bytes]) -> Any:
    """One array, read only if its header promises what is there and no objects."""
    name = member.filename.removesuffix(".npy")
    try:
        version = npy.read_magic(file)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = header(file)
    except (ValueError, SyntaxError, TypeError) as error:
        raise InputError(f"{path}, array '{name}': damaged ({_short(error)}). Save it again.") from None
    if dtype.hasobject:
        raise InputError(
            f"{path}, array '{name}': holds pickled objects, which could run code and are never loaded. Save it as "
            "numbers: array.astype(float)."
        )
    if any(type(n) is not int or n < 0 for n in shape):
        raise InputError(f"{path}, array '{name}': its header says the shape {shape}. Save it again.")
    size = math.prod(shape) * dtype.itemsize
    if size != member.file_size - file.tell():
        raise InputError(f"{path}, array '{name}': its header promises {size} bytes that are not there. Save it again.")
    array = np.frombuffer(file.read(size), dtype=dtype)
    return array.reshape(shape, order="F" if fortran else "C")


def _simulated(path: Path, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The table of `physid simulate`, as columns by channel."""
    times, seen = arrays["times"], np.array(arrays["observations"], dtype=np.float64)
    names = [str(name) for name in arrays["channels"].ravel()]
    values = seen.reshape(len(seen), -1)
    if values.shape[1] != len(names):
        raise InputError(f"{path}: {len(names)} channel names for {values.shape[1]} columns of observations. Name all.")
    mask = arrays.get("mask")
    if mask is not None and mask.shape == seen.shape:
        values = np.where(mask.reshape(values.shape), values, np.nan)
    return {"t": times, **{name: values[:, i] for i, name in enumerate(names)}}


def read_mat(path: Path, data: bytes) -> RawTable:
    """The numeric arrays of a MATLAB file (version 4 to 7) as columns; see `_table`.

    Errors: InputError for what is no such file, for version 7.3 with what to do, and for too large arrays.
    """
    if data.startswith(b"\x89HDF") or data[:19] == b"MATLAB 7.3 MAT-file":
        raise InputError(
            f"{path} is a MAT file of version 7.3, which is HDF5. Save it in MATLAB with -v7, or read it with h5py and "
            "write it with numpy.savez."
        )
    about, found = _unpacked(path, data)
    if not found:
        kinds = ", ".join(f"{name} ({kind})" for name, kind in about) or "nothing"
        raise InputError(f"{path} holds no numeric array but {kinds}. Save the columns as arrays of their own.")
    return _table(path, "mat", found)


def _unpacked(path: Path, data: bytes) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """The names and kinds of what a MAT file holds, and its numeric arrays, by a process that may crash."""
    limit, seconds = most(LARGEST), LONGEST * factor()
    words = [str(matfile.__file__), json.dumps(sys.path), str(limit), json.dumps(MAT_NUMBERS)]
    try:
        done = subprocess.run([sys.executable, "-I", *words], input=data, capture_output=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise InputError(
            f"{path} is not read after {seconds:g} s. Save it again, or raise the limits, as in --limits 10."
        ) from None
    head, sign, body = done.stdout.partition(b"\n")
    if done.returncode or not sign:
        how = f"crashed ({signal.Signals(-done.returncode).name})" if done.returncode < 0 else "failed"
        raise InputError(f"{path} is no whole MAT file: SciPy's reader {how} on it. Save it again.")
    answer = json.loads(head)
    if "error" in answer:
        raise InputError(f"{path} is no whole MAT file: {_short(answer['error'])}. Save it again.")
    if answer["size"] > limit:
        raise too_large(path, answer["size"])
    found, at = {}, 0
    for name, kind, shape in answer["arrays"]:
        array = np.frombuffer(body, dtype=kind, count=math.prod(shape), offset=at)
        found[name], at = array.reshape(shape), at + array.nbytes
    return [(name, kind) for name, kind in answer["about"]], found


def _table(path: Path, kind: str, arrays: Mapping[str, Any]) -> RawTable:
    """Arrays as columns: [T], [T, 1] or [1, T] one column, [T, m] the columns name[0] to name[m - 1].

    T is the length of an array called t or time, or else the commonest; what has another length is left out and noted.
    """
    kept: dict[str, Any] = {}
    notes = []
    for name, array in arrays.items():
        flat = array.reshape(-1) if array.ndim == 2 and 1 in array.shape else array
        if flat.ndim not in (1, 2) or flat.dtype.kind not in NUMERIC + "U":
            what = f"{array.ndim} dimensions" if flat.ndim not in (1, 2) else f"type {flat.dtype}"
            if flat.ndim and flat.dtype.kind == "c":
                raise InputError(
                    f"{path}, array '{name}': complex numbers. Save real and imaginary parts by themselves."
                )
            notes.append(f"{name} left out: {what}")
        else:
            kept[name] = flat
    lengths = [len(flat) for flat in kept.values()]
    if not lengths or max(lengths) == 0:
        raise InputError(f"{path} holds no array of one or two dimensions with numbers. Save the columns as arrays.")
    clock = next((len(flat) for name, flat in kept.items() if name.lower() in ("t", "time", "times")), None)
    count = max(set(lengths), key=lambda n: (lengths.count(n), n)) if clock is None or clock < 2 else clock
    names: list[str] = []
    cells: list[Cells] = []
    for name, flat in kept.items():
        if len(flat) != count:
            notes.append(f"{name} left out: {len(flat)} values, not {count}")
            continue
        columns = [(name, flat)] if flat.ndim == 1 else [(f"{name}[{i}]", flat[:, i]) for i in range(flat.shape[1])]
        for label, values in columns:
            names.append(label)
            text = values.dtype.kind == "U"
            cells.append(values.astype(object) if text else _exact(path, label, values))
    return RawTable(path, kind, columns_of(path, names, cells), notes=tuple(notes))


def _short(error: BaseException | str) -> str:
    """The first line of an error, without its last stop."""
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__).rstrip(".")[:150]
