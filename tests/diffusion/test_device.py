import pytest
import torch

from msdsr.diffusion.device import process_count
from msdsr.errors import UserError


@pytest.mark.parametrize(("asked", "count"), [(0, 1), (1, 1), (3, 3)])
def test_a_cpu_takes_as_many_processes_as_are_asked_for(asked, count):
    assert process_count(torch.device("cpu"), asked) == count


def test_no_more_gpus_than_can_be_seen(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert process_count(torch.device("cuda"), 2) == 2
    with pytest.raises(UserError, match="3, but 2 can be seen"):
        process_count(torch.device("cuda"), 3)
