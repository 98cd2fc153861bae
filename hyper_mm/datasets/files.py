"""Reading hand-made files: errors name the file, the place in it, and what is expected.

Needs no framework.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

TORN = (gzip.BadGzipFile, EOFError, zlib.error)
"""What a gzip file that is none, or is not whole, raises."""


def read_text(path: str | Path) -> str:
    """Reads a text file in UTF-8, gzipped where its name ends in ``.gz``.

    Args:
        path: The file.

    Returns:
        The text, without a byte order mark.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not UTF-8, or no whole gzip file; the message names the place.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist')
    data = path.read_bytes()
    if path.suffix == '.gz':
        try:
            data = gzip.decompress(data)
        except TORN as error:
            raise ValueError(f'{path} is no whole gzip file: {error}') from None
    try:
        return data.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b'\n') + 1
        raise ValueError(
            f'{path}, line {line} must be UTF-8, got byte {data[error.start]:#04x}'
        ) from None


def read_json(path: str | Path, kind: type = dict) -> dict | list:
    """Reads a JSON file.

    Args:
        path: The file.
        kind: What it must hold, ``dict`` or ``list``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no JSON, or holds something else; the message names the place.
    """
    return parse_json(read_text(path), path, kind)


def parse_json(text: str, where: object, kind: type = dict) -> dict | list:
    """Parses a JSON text, in which numbers are finite and the keys of an object differ.

    Args:
        text: The text.
        where: What messages call it.
        kind: What it must hold, ``dict`` or ``list``.

    Raises:
        ValueError: If it is no JSON, or holds something else.
    """
    try:
        found = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f'{where} is no JSON: {error}') from None
    except RecursionError:
        raise ValueError(f'{where} is no JSON that can be read: it is nested too deeply') from None
    except ValueError as error:
        raise ValueError(f'{where}: {error}') from None
    if not isinstance(found, kind):
        what = {dict: 'an object', list: 'a list'}[kind]
        raise ValueError(f'{where} must hold {what}, got {type(found).__name__}')
    return found


def _unique(pairs: list[tuple[str, object]]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f'a key occurs twice: {next(k for k in keys if keys.count(k) > 1)!r}')
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f'numbers must be finite, got {name}')


def is_integer(value: object, low: int = 0, high: int | None = None) -> bool:
    """Whether a value is an integer (no bool) from ``low`` to below ``high``."""
    if not isinstance(value, int) or isinstance(value, bool):
        return False
    return low <= value and (high is None or value < high)


def csv_rows(lines: Iterator[str] | str, where: object, delimiter: str = ',') -> Iterator:
    """Rows of a csv text with a header, each with the number of the line in which it ends.

    Quotes are read strictly: a quote that is never closed would otherwise join all rows up to the
    next one, silently.

    Args:
        lines: The text, or its lines with their ends.
        where: What messages call it.
        delimiter: Between cells.

    Yields:
        Line number, and the row by column names.

    Raises:
        ValueError: For a header without names or with one twice, quotes that do not match, or a row
            of another number of cells.
    """
    if isinstance(lines, str):
        lines = io.StringIO(lines, newline='')
    reader = csv.reader(lines, strict=True, delimiter=delimiter)
    names: list[str] | None = None
    end = 0
    try:
        for row in reader:
            start, end = end + 1, reader.line_num
            if not row:
                continue
            if names is None:
                names = row
                if len({*names}) < len(names) or not all(names):
                    raise ValueError(f'{where}: columns must have names that differ, got {names}')
                continue
            if len(row) != len(names):
                raise ValueError(
                    f'{where}, line {start} must have {len(names)} cells, as the header, got '
                    f'{len(row)}: {str(row)[:80]}'
                )
            yield end, dict(zip(names, row))
    except csv.Error as error:
        raise ValueError(
            f'{where}, row that begins at line {end + 1}: {error} (a quote is open or misplaced)'
        ) from None
    if names is None:
        raise ValueError(f'{where} is empty: it has no header')


def relative(name: object, where: object) -> str:
    """Checks that a path stays below the folder that it is joined with.

    Args:
        name: The path.
        where: What messages call its place.

    Returns:
        The path.

    Raises:
        ValueError: If it is no text, empty, absolute, or leaves its folder by ``..``.
    """
    if not isinstance(name, str) or not name.strip() or '\0' in name:
        raise ValueError(f'{where}: a path must be a text that is not empty, got {name!r}')
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    if posix.is_absolute() or windows.drive or windows.root or '..' in windows.parts:
        raise ValueError(f'{where}: a path must stay below its folder, got {name!r}')
    return name
