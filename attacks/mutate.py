"""Changes to bytes and to data of JSON: some blind, some of the kind that a hostile mind would make."""

from __future__ import annotations

import random
from typing import Any

TOKENS = (
    b"nan", b"inf", b"-inf", b"1e999", b"1e308", b"-0", b"0x1p3", b"9" * 400, b"1_0", b"\xef\xbb\xbf",
    b"\x00", b"\x1b[31m",
    "\u202e".encode(), b"$\\frac{", b"</script>", b"&a", b"*a", b"{{", b"[" * 200, b'"', b"'", b"\r",
    b"\n\n", b",,", b";", b"\t",
    b"../../etc/passwd", b"/dev/zero", b"%s%n", b"__import__('os')", b"2026-02-30", b"NaT", b"\xff\xfe",
    b"[mm]", b"[1/0]",
    b"[m**999999]", b"t", b"value", b"channel", b"experiment",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**63, -(2**80), 10**400, 0.5, 1e308, -1e-308, "", "x", "x" * 5000,
    "../x", "\x00", "\u202e",
    [], {}, [[]], [None], {"": None}, [1] * 1000, "nan", "1e999",
)  # fmt: skip


def mangled(data: bytes, draw: random.Random) -> bytes:
    """The bytes after one to six changes."""
    found = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 6))):
        place, kind = draw.randrange(len(found) + 1), draw.randrange(8)
        length = min(len(found) - place, draw.choice((1, 2, 4, 16, 200)))
        if kind == 0 and found:
            found[place % len(found)] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del found[place : place + length]
        elif kind == 2:
            found[place:place] = found[place : place + length] * draw.randint(1, 8)
        elif kind == 3:
            found[place : place + length] = draw.choice(TOKENS)
        elif kind == 4:
            found[place:place] = draw.choice(TOKENS)
        elif kind == 5:
            found[place : place + length] = draw.randbytes(length)
        elif kind == 6 and draw.random() < 0.3:
            del found[place:]
        elif kind == 7:
            other = draw.randrange(len(found) + 1)
            found[place : place + length] = found[other : other + length]
    return bytes(found)


def altered(value: Any, draw: random.Random) -> Any:
    """The data after one change somewhere inside."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(list(value))
        if draw.random() < 0.1:
            return {name: one for name, one in value.items() if name != key}
        if draw.random() < 0.05:
            return {**value, draw.choice(("__class__", "x", "")): draw.choice(VALUES)}
        return {**value, key: altered(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.9:
        place = draw.randrange(len(value))
        if draw.random() < 0.2:
            return [*value[:place], *value[place + draw.choice((0, 1)) :], *value[:place]]
        return [*value[:place], altered(value[place], draw), *value[place + 1 :]]
    if isinstance(value, int | float) and not isinstance(value, bool) and draw.random() < 0.4:
        return draw.choice((-value, value * 1e300, value + 1, value / 3, int(value) if abs(value) < 1e300 else 0))
    return draw.choice(VALUES)
