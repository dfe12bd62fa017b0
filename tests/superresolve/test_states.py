"""A walk that was broken off after any step ends in the same bits."""

import dataclasses

import pytest
import torch

from msdsr.superresolve.engine import Block, State, Tiling, Walk, restore
from msdsr.volume import Region

SIGMAS = (5.0, 2.0, 0.7, 0.2, 0.0)
TILING = Tiling(8, 6, 5)


def toy(x, sigma, clean, observed):
    rows = torch.where(observed[:, None], clean, x / (1 + sigma**2) ** 0.5)
    return torch.tanh(rows + 0.3 * rows.mean(dim=(-2, -1), keepdim=True) + rows.roll(1, -1))


def block():
    clean = torch.randn(2, 11, 9, 17, generator=torch.Generator().manual_seed(1))
    return Block(clean, torch.arange(11) % 3 == 0, Region(0, 11, 0, 9, 0, 17), 9, 17)


def saved(state: State, order: int) -> State:
    """Return what a file would hold: copies, and no x0 where the order does not need it."""
    values = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
    if order == 1:
        values["x0"] = None
    return State(**{k: v.clone() if torch.is_tensor(v) else v for k, v in values.items()})


@pytest.mark.parametrize(
    ("mode", "order", "eta"),
    [
        ("xz", 1, 1.0), ("yz", 2, 1.0), ("average", 1, 0.5), ("average", 2, 0.0),
        ("joint", 2, 1.0), ("alternate", 1, 1.0),
    ],
)  # fmt: skip
def test_going_on_from_any_step_is_the_same_to_the_bit(mode, order, eta):
    walk = Walk(SIGMAS, eta, 3, noise_length=1.5, noise_strength=0.3, order=order)
    states = []
    whole = restore(
        toy, block(), mode, walk, TILING, after_step=lambda s: states.append(saved(s, order))
    )
    walks = 2 if mode == "average" else 1
    assert [(s.walk, s.step) for s in states] == [
        (w, step) for w in range(walks) for step in range(1, 5)
    ]
    for i, state in enumerate(states):
        later = []
        again = restore(
            toy, block(), mode, walk, TILING, start=state,
            after_step=lambda s, later=later: later.append((s.walk, s.step)),
        )  # fmt: skip
        assert torch.equal(again, whole), (state.walk, state.step)
        assert later == [(s.walk, s.step) for s in states[i + 1 :]]


def test_a_state_shows_what_the_block_will_look_like():
    known, estimates = block(), []
    out = restore(
        toy, known, "alternate", Walk(SIGMAS, 1.0, 3), TILING,
        after_step=lambda s: estimates.append(s.x0.clone()),
    )  # fmt: skip
    for x0 in estimates:
        assert torch.equal(x0[:, known.acquired], known.clean[:, known.acquired])
    assert torch.equal(estimates[-1], out)  # the last step goes to its x0


def test_a_start_is_not_changed():
    state = State(2, torch.randn(2, 11, 9, 17))
    kept = state.x.clone()
    restore(toy, block(), "xz", Walk(SIGMAS, 1.0, 3), TILING, start=state)
    assert torch.equal(state.x, kept)
