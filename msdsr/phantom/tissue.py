"""Isotropic synthetic tissue: two Raman channels as a function of (key, absolute voxel).

Nothing here knows one axis from another: shapes have random orientation, textures come from a cubic
lattice, and z, y and x have one spacing. So XY, XZ and YZ slices have one distribution, which is
what the method rests on, and what a test of this room measures.

Contrast follows stimulated Raman histology in kind, not in any calibrated way: CH2 (2845 cm⁻¹,
lipid) is bright in myelin, droplets and cytoplasm and dark in nuclei; CH3 (2930 cm⁻¹, protein and
lipid) is bright in nuclei and brightest in red cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from msdsr.phantom import objects, paint
from msdsr.phantom.noise import Doubles, Floats, derive_key, lattice_noise
from msdsr.phantom.objects import Box, Traits

CHANNELS = ("CH2", "CH3")
BACKGROUND = (0.045, 0.055)
EDGE = 0.4
"""Half-width of every border (µm): nothing is sharper than the optics would show."""

MARGIN = 1.2
CYTOPLASM_MARGIN = 3.5

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class _Block:
    """One block while it is composed: its axes (µm), its box, and the two channels so far."""

    key: int
    axes: Sequence[Doubles]
    box: Box
    ch2: Floats
    ch3: Floats

    def noise(self, name: str, spacing: float) -> Floats:
        return lattice_noise(derive_key(self.key, name), spacing, self.axes)

    def blend(self, share: Floats, ch2: Floats | float, ch3: Floats | float) -> None:
        """Put a material over what is there, where it covers."""
        for channel, value in ((self.ch2, ch2), (self.ch3, ch3)):
            channel += share * (np.asarray(value, np.float32) - channel)


@dataclass(frozen=True)
class Tissue:
    """The tissue of one patient, endless in all directions.

    Parameters
    ----------
    key
        Which patient; see `derive_key`.
    voxel_um
        Isotropic voxel size (µm).
    """

    key: int
    voxel_um: float
    traits: Traits = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "traits", Traits.draw(self.key))

    def sample(self, z: Indices, y: Indices, x: Indices) -> Floats:
        """Return the tissue at a grid of absolute voxels.

        Parameters
        ----------
        z, y, x
            Ascending absolute voxel indices along each axis; they may be negative, or leave out
            planes.

        Returns
        -------
        numpy.ndarray
            float32 (2, z, y, x), CH2 and CH3, as a part of full scale, in [0, 1].
        """
        axes = [np.asarray(a, np.int64) * np.float64(self.voxel_um) for a in (z, y, x)]
        box = Box(np.array([a[0] for a in axes]), np.array([a[-1] for a in axes]))
        stain = np.zeros((2, len(z), len(y), len(x)), np.float32)
        block = _Block(self.key, axes, box, stain[0], stain[1])
        vessels = objects.capillaries(self.key, box.grown(0.0), MARGIN)
        vessel = paint.tubes(axes, vessels.walls, MARGIN)
        fine = block.noise("fine", 1.1)
        _neuropil(block, fine)
        _cells_and_fibres(block, self.traits, fine)
        _capillaries(block, vessels, vessel, fine)
        _gaps(block)
        stain *= np.float32(self.traits.gain)
        return np.clip(stain, 0, 1, out=stain)


def _neuropil(block: _Block, fine: Floats) -> None:
    """Fill the block with the felt of thin processes between the cells."""
    coarse, middle = block.noise("coarse", 7.0), block.noise("middle", 2.2)
    # Where two independent smooth fields are both near zero lie curves, which favour no direction.
    first, second = block.noise("process-a", 2.6), block.noise("process-b", 2.6)
    process = np.clip(1 - (first * first + second * second) / np.float32(0.2), 0, 1)
    del first, second
    block.ch2[...] = 0.19 + 0.018 * coarse + 0.024 * middle + 0.026 * fine + 0.12 * process
    block.ch3[...] = 0.175 + 0.015 * coarse + 0.016 * middle + 0.022 * fine + 0.06 * process


def _cells_and_fibres(block: _Block, traits: Traits, fine: Floats) -> None:
    """Draw fibres, cell bodies, droplets, vacuoles and nuclei, each over the one before."""
    axes, box, key = block.axes, block.box, block.key
    fibre = paint.tubes(axes, objects.fibres(key, traits, box, MARGIN), MARGIN)
    sheath = paint.cover(fibre, EDGE)
    core = paint.cover(fibre + np.float32(0.55), EDGE)
    block.blend(sheath, 0.42 + 0.02 * fine, 0.31 + 0.015 * fine)
    block.blend(core, 0.29, 0.25)

    reach = objects.NUCLEUS_MAX + CYTOPLASM_MARGIN
    nuclei = objects.nuclei(key, traits, box.grown(reach))
    distance, owner = paint.ellipsoids(axes, nuclei, CYTOPLASM_MARGIN)
    # Each nucleus has its own tone; beyond all of them index −1 finds the appended middle tone.
    tone = np.append(nuclei.level, 0.5).astype(np.float32)[owner]
    wobble = block.noise("wobble", 2.4)
    distance += np.float32(0.28) * wobble
    granules = block.noise("granules", 1.3)
    body = paint.cover(distance - (0.5 + 1.7 * tone), 0.7)
    block.blend(body * 0.85, 0.285 + 0.045 * granules, 0.235 + 0.025 * granules)

    droplet, _ = paint.ellipsoids(
        axes, objects.droplets(key, traits, box.grown(objects.DROPLET_MAX + MARGIN)), MARGIN
    )
    block.blend(paint.cover(droplet, EDGE), 0.5, 0.36)
    _vacuoles(block)
    _nuclei(block, distance, tone, fine)


def _vacuoles(block: _Block) -> None:
    holes = objects.vacuoles(block.key, block.box.grown(objects.VACUOLE_MAX + MARGIN))
    distance, _ = paint.ellipsoids(block.axes, holes, MARGIN)
    block.blend(paint.cover(distance - np.float32(0.45), EDGE) * 0.6, 0.33, 0.25)
    block.blend(paint.cover(distance, EDGE), 0.075, 0.085)


def _nuclei(block: _Block, distance: Floats, tone: Floats, fine: Floats) -> None:
    """Draw nuclei: a rim, clumped chromatin of 1 to 2 µm, and nucleoli."""
    clumps = np.clip(block.noise("chromatin", 1.2) + np.float32(0.5) * fine, -1.5, 2)
    nucleolus = paint.cover(np.float32(2.1) - block.noise("nucleoli", 2.6), 0.25)
    rim = np.clip(1 - np.abs(distance + np.float32(0.6)) / np.float32(0.6), 0, 1)
    ch3 = 0.26 + 0.06 * tone + 0.055 * clumps + 0.05 * rim
    ch2 = 0.095 + 0.025 * tone + 0.022 * clumps + 0.03 * rim
    ch3 += nucleolus * (np.float32(0.45) - ch3)
    block.blend(paint.cover(distance, EDGE), ch2, ch3)


def _capillaries(block: _Block, vessels: objects.Capillaries, vessel: Floats, fine: Floats) -> None:
    """Draw a wall, a dark lumen, and red cells (flat discs) inside it."""
    block.blend(paint.cover(vessel - np.float32(0.9), EDGE), 0.21 + 0.02 * fine, 0.3 + 0.025 * fine)
    lumen = paint.cover(vessel, EDGE)
    block.blend(lumen, 0.09 + 0.004 * fine, 0.125 + 0.006 * fine)
    distance, _ = paint.ellipsoids(block.axes, vessels.red_cells, MARGIN)
    block.blend(paint.cover(distance, EDGE) * lumen, 0.2 + 0.01 * fine, 0.5 + 0.02 * fine)


def _gaps(block: _Block) -> None:
    """Take the tissue away where the macroscopic field is low: clefts, and the slide's border."""
    macro = lattice_noise(objects.macro_key(block.key), objects.MACRO_UM, block.axes)
    debris = block.noise("ragged", 3.0)
    ragged = macro + np.float32(0.09) * debris
    there = np.clip((ragged - np.float32(objects.GAP)) / np.float32(0.08) + 0.5, 0, 1)
    float_off = np.float32(0.008) * np.maximum(debris, 0)
    block.blend(1 - there, BACKGROUND[0] + float_off, BACKGROUND[1] + float_off)
