import json

import pytest
import torch

from msdsr.train.checkpoint import Checkpoints, newest_state, read_state

CPU = torch.device("cpu")


def state(value):
    return {"weights": torch.full((100,), float(value)), "progress": {"images": value}}


def test_the_last_k_are_kept_and_the_newest_is_read(tmp_path):
    states = Checkpoints(tmp_path, keep=2)
    for images in (8, 80, 800):
        states.save(images, state(images))
    assert sorted(p.name for p in tmp_path.glob("*.pt")) == [
        "state-000000000080.pt",
        "state-000000000800.pt",
    ]
    assert len(list(tmp_path.iterdir())) == 4
    path, damaged = newest_state(tmp_path)
    assert (path.name, damaged) == ("state-000000000800.pt", [])
    assert torch.equal(read_state(path, CPU)["weights"], state(800)["weights"])


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "seal"])
def test_a_damaged_newest_state_falls_back(tmp_path, harm):
    states = Checkpoints(tmp_path, keep=3)
    for images in (8, 16):
        states.save(images, state(images))
    newest = tmp_path / "state-000000000016.pt"
    content = bytearray(newest.read_bytes())
    if harm == "flip":
        content[len(content) // 2] ^= 1
    newest.write_bytes({"cut": content[:100], "empty": b""}.get(harm, bytes(content)))
    if harm == "seal":
        newest.with_suffix(".json").write_text("{")
    path, damaged = newest_state(tmp_path)
    assert path.name == "state-000000000008.pt"
    assert damaged == ["state-000000000016.pt"]
    states.save(16, state(17))
    path, damaged = newest_state(tmp_path)
    assert (path, damaged) == (newest, [])
    assert read_state(path, CPU)["progress"]["images"] == 17


def test_a_state_without_its_seal_was_never_finished(tmp_path):
    states = Checkpoints(tmp_path, keep=2)
    states.save(8, state(8))
    torch.save(state(16), tmp_path / "state-000000000016.pt")
    (tmp_path / "state-000000000024.tmp").write_bytes(b"half")
    assert newest_state(tmp_path)[0].name == "state-000000000008.pt"
    states.save(32, state(32))
    assert {p.stem for p in tmp_path.iterdir()} == {"state-000000000008", "state-000000000032"}


def test_nothing_to_go_on_from(tmp_path):
    assert newest_state(tmp_path / "none") == (None, [])


def test_code_is_never_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (print, ("sprung",))

    path = Checkpoints(tmp_path, keep=1).save(8, {"trap": Trap()})
    assert "sha256" in json.loads(path.with_suffix(".json").read_text())
    with pytest.raises(Exception, match=r"[Ww]eights"):
        read_state(path, CPU)
