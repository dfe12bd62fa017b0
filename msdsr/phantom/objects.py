"""The things in the tissue (nuclei, fibres, capillaries …), drawn cell by cell of a hashed grid.

A grid cell draws its things from its own hashes, so what lies in a box is known without knowing
what lies elsewhere. Positions and directions favour no axis. All lengths are in micrometres.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from msdsr.phantom.noise import Doubles, derive_key, hashed, lattice_noise_at, uniform

MACRO_UM = 45.0
GAP = -1.6
"""Where the macroscopic field lies below this, there is no tissue (about 5 % of space)."""

NUCLEUS_CELL, NUCLEUS_DRAWS, NUCLEUS_MAX = 10.0, 3, 5.0
FIBRE_CELL, FIBRE_DRAWS, FIBRE_MAX = 16.0, 4, 35.0
CAPILLARY_CELL, CAPILLARY_MAX = 50.0, 60.0
VACUOLE_CELL, VACUOLE_MAX = 16.0, 5.0
DROPLET_CELL, DROPLET_DRAWS, DROPLET_MAX = 6.0, 3, 0.9
RED_CELL_RADIUS = 3.2


@dataclass(frozen=True)
class Box:
    """A box in space (µm), as corners z, y, x."""

    low: Doubles
    high: Doubles

    def grown(self, margin: float) -> Box:
        """Return the box with a margin on all sides."""
        return Box(self.low - margin, self.high + margin)

    def holds(self, points: Doubles) -> NDArray[np.bool_]:
        """Tell which points (n, 3) lie inside."""
        inside = np.asarray((points >= self.low) & (points <= self.high))
        every: NDArray[np.bool_] = np.logical_and.reduce(inside, axis=1)
        return every


@dataclass(frozen=True)
class Traits:
    """How one patient's tissue differs from another's."""

    cellularity: float
    fibres: float
    lipid: float
    gain: float

    @classmethod
    def draw(cls, key: int) -> Traits:
        """Draw the traits of a patient."""
        u = uniform(hashed(derive_key(key, "traits"), np.arange(4)))
        return cls(0.45 + 0.4 * u[0], 0.25 + 0.5 * u[1], 0.25 + 0.5 * u[2], 0.9 + 0.2 * u[3])


@dataclass(frozen=True)
class Ellipsoids:
    """Ellipsoids: centres (n, 3), semi-axes (n, 3), rotations (n, 3, 3), and a level in [0, 1)."""

    centre: Doubles
    radii: Doubles
    rotation: Doubles
    level: Doubles

    def __len__(self) -> int:
        return len(self.centre)

    def take(self, keep: NDArray[np.bool_] | NDArray[np.intp]) -> Ellipsoids:
        """Return some of them."""
        return Ellipsoids(
            self.centre[keep], self.radii[keep], self.rotation[keep], self.level[keep]
        )


@dataclass(frozen=True)
class Segments:
    """Straight pieces of tubes: ends (n, 3) each, radius (n,)."""

    start: Doubles
    end: Doubles
    radius: Doubles

    def __len__(self) -> int:
        return len(self.start)


def _draws(key: int, box: Box, cell: float, each: int, slots: int) -> tuple[Doubles, Doubles]:
    """Draw ``each`` candidates in every grid cell that meets a box.

    Returns
    -------
    tuple
        Positions (n, 3) in µm, and ``slots`` further uniform numbers for each (n, slots).
    """
    low = np.floor(box.low / cell).astype(np.int64)
    high = np.floor(box.high / cell).astype(np.int64)
    ranges = (np.arange(a, b + 1) for a, b in zip(low, high, strict=True))
    cells = np.array(list(product(*ranges)), dtype=np.int64)
    z, y, x = (cells[:, axis, None, None] for axis in range(3))
    candidate = np.arange(each)[None, :, None]
    slot = np.arange(3 + slots)[None, None, :]
    u = uniform(hashed(key, z, y, x, candidate, slot))
    positions = (cells[:, None, :] + u[:, :, :3]) * cell
    return positions.reshape(-1, 3), u[:, :, 3:].reshape(-1, slots)


def _rotations(u: Doubles) -> Doubles:
    """Turn three uniform numbers (n, 3) into uniform rotations (n, 3, 3) by unit quaternions."""
    a, b = np.sqrt(1 - u[:, 0]), np.sqrt(u[:, 0])
    s, t = 2 * np.pi * u[:, 1], 2 * np.pi * u[:, 2]
    i, j, k, w = a * np.sin(s), a * np.cos(s), b * np.sin(t), b * np.cos(t)
    rows = [
        [1 - 2 * (j * j + k * k), 2 * (i * j - k * w), 2 * (i * k + j * w)],
        [2 * (i * j + k * w), 1 - 2 * (i * i + k * k), 2 * (j * k - i * w)],
        [2 * (i * k - j * w), 2 * (j * k + i * w), 1 - 2 * (i * i + j * j)],
    ]
    return np.moveaxis(np.array(rows), 2, 0)


def macro_key(key: int) -> int:
    """Return the key of the field that says where there is tissue at all."""
    return derive_key(key, "macro")


def nuclei(key: int, traits: Traits, box: Box) -> Ellipsoids:
    """Return the nuclei whose centres lie in a box; no two of them overlap much.

    Overlap is removed by Matérn's second hard-core rule: a candidate gives way when another with a
    lower mark is too near, whatever becomes of that other. So a nucleus depends on its
    neighbourhood alone.
    """
    reach = 2 * NUCLEUS_MAX
    at, u = _draws(derive_key(key, "nuclei"), box.grown(reach), NUCLEUS_CELL, NUCLEUS_DRAWS, 10)
    # Cellularity drifts through the tissue; the field is another than the tissue's border.
    drift = lattice_noise_at(derive_key(key, "cellularity"), 30.0, at)
    there = u[:, 0] < traits.cellularity * np.clip(1 + 0.45 * drift, 0.15, 1.8)
    there &= lattice_noise_at(macro_key(key), MACRO_UM, at) > GAP + 0.1
    at, u = at[there], u[there]
    size = 2.5 + 2.0 * u[:, 2] ** 1.5
    radii = np.minimum(size[:, None] * (0.8 + 0.45 * u[:, 3:6]), NUCLEUS_MAX)
    mean = radii.mean(axis=1)
    keep = np.ones(len(at), bool)
    for i, j in cKDTree(at).query_pairs(reach) if len(at) else ():
        if np.linalg.norm(at[i] - at[j]) < 1.02 * (mean[i] + mean[j]):
            keep[i if u[i, 1] > u[j, 1] else j] = False
    keep &= box.holds(at)
    return Ellipsoids(at[keep], radii[keep], _rotations(u[keep, 6:9]), u[keep, 9])


def vacuoles(key: int, box: Box) -> Ellipsoids:
    """Return the vacuoles (nearly spheres) whose centres lie in a box."""
    at, u = _draws(derive_key(key, "vacuoles"), box, VACUOLE_CELL, 1, 8)
    there = (u[:, 0] < 0.3) & box.holds(at)
    at, u = at[there], u[there]
    radii = (1.6 + 2.6 * u[:, 1:2] ** 2) * (0.85 + 0.3 * u[:, 2:5])
    return Ellipsoids(at, np.minimum(radii, VACUOLE_MAX), _rotations(u[:, 5:8]), u[:, 0] / 0.3)


def droplets(key: int, traits: Traits, box: Box) -> Ellipsoids:
    """Return the lipid droplets (spheres) whose centres lie in a box, in loose clusters."""
    at, u = _draws(derive_key(key, "droplets"), box, DROPLET_CELL, DROPLET_DRAWS, 2)
    cluster = lattice_noise_at(derive_key(key, "clusters"), 12.0, at)
    there = (u[:, 0] < traits.lipid * np.clip(0.35 + 0.6 * cluster, 0, 2)) & box.holds(at)
    at, u = at[there], u[there]
    radii = np.repeat(0.35 + (DROPLET_MAX - 0.35) * u[:, 1:2] ** 2, 3, axis=1)
    return Ellipsoids(at, radii, np.broadcast_to(np.eye(3), (len(at), 3, 3)), u[:, 1])


def _arcs(middle: Doubles, frame: Doubles, half: Doubles, bend: Doubles, pieces: int) -> Doubles:
    """Return points (n, pieces + 1, 3) on circular arcs of radius ``bend`` through ``middle``."""
    s = np.linspace(-1, 1, pieces + 1) * half[:, None]
    angle = s / bend[:, None]
    along = bend[:, None] * np.sin(angle)
    aside = bend[:, None] * (1 - np.cos(angle))
    points: Doubles = middle[:, None, :] + along[:, :, None] * frame[:, None, :, 0]
    points += aside[:, :, None] * frame[:, None, :, 1]
    return points


def _segments(points: Doubles, radius: Doubles, box: Box, margin: float) -> Segments:
    """Cut curves (n, k, 3) into straight pieces and keep those near a box."""
    start, end = points[:, :-1].reshape(-1, 3), points[:, 1:].reshape(-1, 3)
    radius = np.repeat(radius, points.shape[1] - 1)
    grow = (radius + margin)[:, None]
    low, high = np.minimum(start, end) - grow, np.maximum(start, end) + grow
    near = ((low <= box.high) & (high >= box.low)).all(axis=1)
    return Segments(start[near], end[near], radius[near])


def fibres(key: int, traits: Traits, box: Box, margin: float) -> Segments:
    """Return pieces of the myelinated fibres (0.5 to 1 µm in radius) that come near a box."""
    at, u = _draws(derive_key(key, "fibres"), box.grown(FIBRE_MAX), FIBRE_CELL, FIBRE_DRAWS, 7)
    tracts = lattice_noise_at(derive_key(key, "tracts"), 25.0, at)
    there = u[:, 0] < traits.fibres * np.clip(0.8 + 0.6 * tracts, 0, 2)
    at, u = at[there], u[there]
    half = 12 + 18 * u[:, 1]
    points = _arcs(at, _rotations(u[:, 2:5]), half, 20 + 80 * u[:, 5], 16)
    return _segments(points, 0.5 + 0.5 * u[:, 6], box, margin)


@dataclass(frozen=True)
class Capillaries:
    """Capillaries near a box, and the red cells in them."""

    walls: Segments
    red_cells: Ellipsoids


def capillaries(key: int, box: Box, margin: float) -> Capillaries:
    """Return the capillaries (lumen 3 to 4 µm in radius) that come near a box."""
    outer = box.grown(CAPILLARY_MAX)
    at, u = _draws(derive_key(key, "capillaries"), outer, CAPILLARY_CELL, 1, 8)
    there = u[:, 0] < 0.55
    at, u = at[there], u[there]
    frame, half, bend = _rotations(u[:, 1:4]), 30 + 25 * u[:, 4], 35 + 90 * u[:, 5]
    radius = 3.4 + 1.0 * u[:, 6]
    walls = _segments(_arcs(at, frame, half, bend, 24), radius, box, margin)
    path = _arcs(at, frame, half - 4, bend, 17).reshape(-1, 3)
    tag = hashed(derive_key(key, "red"), (u[:, 7] * 2**52).astype(np.int64)[:, None], np.arange(18))
    v = uniform(hashed(derive_key(key, "cells"), tag.reshape(-1, 1).view(np.int64), np.arange(5)))
    there = (v[:, 0] < 0.75) & box.grown(RED_CELL_RADIUS + margin).holds(path)
    radii = np.broadcast_to([1.15, RED_CELL_RADIUS, RED_CELL_RADIUS], (len(path), 3))
    red = Ellipsoids(path, radii, _rotations(v[:, 1:4]), v[:, 4])
    return Capillaries(walls, red.take(there))
