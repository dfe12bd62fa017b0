"""Two sets of pictures for FID, the same everywhere: needs NumPy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

COUNT = 64
SIDES = (299, 48)
"""As Inception takes them, so that nobody resizes; and crops that everybody must enlarge."""

LOOKS = {"real": (6.0, 1.0), "fake": (4.0, 0.8)}
"""Wavelength (in hundredths of the side) and contrast of the textures of each set."""


def pictures(which: str, side: int, count: int = COUNT) -> NDArray[np.uint8]:
    """Return the first pictures of a set: coloured textures, no two alike.

    Parameters
    ----------
    which
        ``real`` or ``fake``.
    side
        Pixels.
    count
        How many.

    Returns
    -------
    numpy.ndarray
        uint8, shape (count, 3, side, side), RGB.
    """
    wavelength, contrast = LOOKS[which]
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij"))
    made = []
    for number in range(count):
        rng = np.random.default_rng([sorted(LOOKS).index(which), side, number])
        length = wavelength / 100 * side * rng.uniform(0.5, 2)
        white = np.fft.rfft2(rng.standard_normal((3, side, side)))
        field = np.fft.irfft2(white * np.exp(-((frequency * length) ** 2)), (side, side))
        field = np.tensordot(rng.dirichlet((1, 1, 1), 3), field / field.std(), 1)
        made.append(rng.uniform(90, 160) + 60 * contrast * field)
    return np.rint(np.clip(made, 0, 255)).astype(np.uint8)
