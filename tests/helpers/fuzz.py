"""Damaged files for the tests of readers."""

from __future__ import annotations

import copy
import json

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

FAST = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
"""Few examples, of any duration; files are written to one folder again and again."""

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=6),
    st.sampled_from(['../x', '/etc/passwd', '..', 'train', 'a.jpg', '']),
)
JSON = st.recursive(
    SCALARS,
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=4), x, max_size=3),
    max_leaves=6,
)
"""Any JSON value."""


def places(value, path=()) -> list[tuple]:
    """Paths to all values within a JSON value."""
    inside = value.items() if isinstance(value, dict) else ()
    inside = enumerate(value) if isinstance(value, list) else inside
    return [path, *(p for key, x in inside for p in places(x, (*path, key)))]


@st.composite
def damaged(draw, content) -> bytes:
    """A JSON file in which one value is replaced or left out, or whose bytes are changed."""
    content = copy.deepcopy(content)
    path = draw(st.sampled_from(places(content)))
    if path:
        inside = content
        for key in path[:-1]:
            inside = inside[key]
        if draw(st.booleans()):
            inside[path[-1]] = draw(JSON)
        else:
            del inside[path[-1]]
    else:
        content = draw(JSON)
    return draw(changed(json.dumps(content).encode()) | st.just(json.dumps(content).encode()))


@st.composite
def changed(draw, data: bytes) -> bytes:
    """Bytes that are cut, or have others put in."""
    at = draw(st.integers(0, len(data)))
    end = draw(st.integers(at, min(len(data), at + 20)))
    return data[:at] + draw(st.binary(max_size=6)) + data[end:]


def reads(build, *names: str):
    """Runs a reader on a damaged file: it reads it, or says which file is wrong.

    Args:
        build: Reads.
        *names: What the message must name one of.

    Returns:
        What ``build`` returns, or None where it refuses.
    """
    try:
        return build()
    except (ValueError, FileNotFoundError) as error:
        assert any(name in str(error) for name in names), f'{type(error).__name__}: {error}'
        assert type(error) in (ValueError, FileNotFoundError), repr(error)
        return None
