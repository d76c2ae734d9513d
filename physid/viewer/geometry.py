"""Tubes, dashes and rings as arrays of vertices and triangles, by numpy alone, in units of the largest extent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from physid.arrays import Array

Faces = NDArray[np.int64]


@dataclass(frozen=True)
class Surface:
    """Vertices [V, 3] with their normals [V, 3], and triangles [F, 3]."""

    points: Array
    normals: Array
    faces: Faces


EMPTY = Surface(np.empty((0, 3)), np.empty((0, 3)), np.empty((0, 3), dtype=np.int64))


def length(path: Array) -> Array:
    """The arc length [T] along a path [T, 3]."""
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])


def even(path: Array, spacing: float, most: int = 4000) -> tuple[Array, Array]:
    """A path [N, 3] resampled to about equal steps of arc length, and where its points lie in the old one [N].

    So the tube around it has no more rings than its shape needs, nor fewer.
    """
    s = length(path)
    places = np.arange(len(path), dtype=np.float64)
    if s[-1] <= 0:
        return path[:1], places[:1]
    keep = np.concatenate([[True], np.diff(s) > 0])
    count = int(np.clip(np.ceil(s[-1] / spacing), 2, most)) + 1
    at = np.interp(np.linspace(0.0, s[-1], count), s[keep], places[keep])
    return along(path, at), at


def along(path: Array, at: Array) -> Array:
    """The points [N, 3] of a path at the fractional places `at` [N], by straight lines."""
    places = np.arange(len(path))
    return np.stack([np.interp(at, places, path[:, axis]) for axis in range(3)], -1)


def dashes(path: Array, dash: float, gap: float, points: int = 7, first: float = 0.0) -> Array:
    """Dashes [K, points, 3] of equal arc length along a path [T, 3], the last one cut where the path ends.

    They are laid out from the start of the path, `first` being its arc length before it, so that they stay where they
    are while the path grows.
    """
    s = length(path)
    keep = np.concatenate([[True], np.diff(s) > 0])
    if keep.sum() < 2:
        return np.empty((0, points, 3))
    s, path = s[keep] + first, path[keep]
    period = dash + gap
    begin = np.arange(np.floor(s[0] / period), np.floor(s[-1] / period) + 1) * period
    low, high = np.maximum(begin, s[0]), np.minimum(begin + dash, s[-1])
    there = high - low > 0.05 * dash
    at = low[there, None] + (high - low)[there, None] * np.linspace(0.0, 1.0, points)
    return np.stack([np.interp(at, s, path[:, axis]) for axis in range(3)], -1)


def frames(lines: Array) -> tuple[Array, Array, Array]:
    """Tangents and two normals [K, P, 3] along lines [K, P, 3], turned as little as possible from point to point.

    Source: Wang, Jüttler, Zheng and Liu (2008), the double reflection method, here with one reflection projected.
    """
    tangent = np.gradient(lines, axis=1)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=-1, keepdims=True), 1e-300)
    axis = np.eye(3)[np.argmin(np.abs(tangent[:, 0]), axis=-1)]
    normal = np.empty_like(lines)
    previous = np.cross(tangent[:, 0], axis)
    for p in range(lines.shape[1]):
        previous = previous - (previous * tangent[:, p]).sum(-1, keepdims=True) * tangent[:, p]
        size = np.linalg.norm(previous, axis=-1, keepdims=True)
        lost = size[:, 0] < 1e-9
        if lost.any():
            previous[lost] = np.cross(tangent[lost, p], np.roll(tangent[lost, p], 1, -1) + 0.1)
            size = np.linalg.norm(previous, axis=-1, keepdims=True)
        previous = previous / size
        normal[:, p] = previous
    return tangent, normal, np.cross(tangent, normal)


def tubes(lines: Array, radius: Array | float, sides: int = 12, caps: int = 3) -> Surface:
    """Tubes with round ends around lines [K, P, 3], of the absolute `radius` [K, P] or one radius for all.

    Triangles are ordered along each line, so that the first ones are a tube that ends earlier.
    """
    if lines.shape[0] == 0 or lines.shape[1] < 2:
        return EMPTY
    tangent, one, two = frames(lines)
    r = np.broadcast_to(np.asarray(radius, dtype=np.float64), lines.shape[:2])
    lean = np.zeros(lines.shape[:2])  # how far normals lean along the tangent, at the caps
    lines, r, lean, tangent, one, two = _capped(lines, r, lean, tangent, one, two, caps)
    angle = np.linspace(0.0, 2 * np.pi, sides, endpoint=False)
    around = np.cos(angle)[:, None] * one[:, :, None] + np.sin(angle)[:, None] * two[:, :, None]  # [K, P, sides, 3]
    points = lines[:, :, None] + r[:, :, None, None] * around
    flat = np.sqrt(np.maximum(1 - lean**2, 0.0))[:, :, None, None]
    normals = flat * around + (lean[:, :, None] * tangent)[:, :, None]
    return Surface(points.reshape(-1, 3), normals.reshape(-1, 3), strip(lines.shape[0], lines.shape[1], sides))


def _capped(
    lines: Array, r: Array, lean: Array, tangent: Array, one: Array, two: Array, caps: int
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """The rings with half spheres of `caps` rings at both ends."""
    turn = np.linspace(0.0, np.pi / 2, caps + 1)[1:]
    ends = []
    for end, sign, order in ((0, -1.0, slice(None, None, -1)), (-1, 1.0, slice(None))):
        size, along_it = r[:, end, None], np.sin(turn)[order]
        place = lines[:, end, None] + sign * (size * along_it)[..., None] * tangent[:, end, None]
        ring = size * np.maximum(np.cos(turn)[order], 1e-3)
        tilt = np.broadcast_to(sign * along_it, ring.shape)
        copies = [np.repeat(x[:, end, None], caps, 1) for x in (tangent, one, two)]
        ends.append((place, ring, tilt, *copies))
    parts = zip(ends[0], (lines, r, lean, tangent, one, two), ends[1], strict=True)
    a, b, c, d, e, f = (np.concatenate(three, 1) for three in parts)
    return a, b, c, d, e, f


def strip(count: int, rings: int, sides: int) -> Faces:
    """The triangles between the rings of `count` tubes, ring by ring."""
    ring = np.arange(sides)
    after = (ring + 1) % sides
    quad = np.stack([ring, after, ring + sides, after, after + sides, ring + sides], -1).reshape(-1, 3)
    first = (np.arange(count)[:, None] * rings + np.arange(rings - 1)).reshape(-1, 1, 1) * sides
    return (quad[None] + first).reshape(-1, 3).astype(np.int64)


def merged(parts: list[Surface]) -> Surface:
    """Several surfaces as one."""
    parts = [part for part in parts if len(part.points)]
    if not parts:
        return EMPTY
    offsets = np.cumsum([0, *(len(part.points) for part in parts[:-1])])
    return Surface(
        np.concatenate([part.points for part in parts]),
        np.concatenate([part.normals for part in parts]),
        np.concatenate([part.faces + offset for part, offset in zip(parts, offsets, strict=True)]),
    )


def circle(center: Array, axis: Array, radius: float, points: int = 97) -> Array:
    """A closed circle [points, 3] about `axis`."""
    axis = axis / max(float(np.linalg.norm(axis)), 1e-300)
    one = np.cross(axis, np.eye(3)[int(np.argmin(np.abs(axis)))])
    one /= np.linalg.norm(one)
    angle = np.linspace(0.0, 2 * np.pi, points)[:, None]
    return np.asarray(center + radius * (np.cos(angle) * one + np.sin(angle) * np.cross(axis, one)))


def nice(span: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is not above `span`."""
    power = 10.0 ** np.floor(np.log10(span))
    return float(max(k * power for k in (1.0, 2.0, 5.0) if k * power <= span * (1 + 1e-12)))
