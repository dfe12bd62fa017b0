"""How real images are cut in two, to be held against each other."""

from types import SimpleNamespace

import numpy as np
import pytest

from msdsr.evaluate.floor import halve


def real(*images_of_slide, patients):
    rows = np.repeat(np.arange(len(images_of_slide)), images_of_slide)
    return SimpleNamespace(slide_of_row=rows.astype(np.int32), patients=patients)


@pytest.mark.parametrize(
    ("slides", "patients", "by"),
    [
        ((20, 20, 20), ("p", "p", "q"), "patient"),
        ((20, 20, 20), ("p", "p", "p"), "slide"),
        ((60, 4, 4), ("p", "p", "p"), "image"),
        ((60, 4, 4), ("p", "q", "q"), "image"),
        ((40,), ("p",), "image"),
    ],
)
def test_a_half_holds_a_quarter_of_the_images_or_more(slides, patients, by):
    halves = halve(real(*slides, patients=patients), seed=0)
    assert halves.by == by
    for first, second in halves.splits:
        assert min(len(first), len(second)) >= sum(slides) / 4
        assert not set(first) & set(second)
        assert len(first) + len(second) == sum(slides)
