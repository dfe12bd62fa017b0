import json
import shlex
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import numpy as np
import pytest

from msdsr.cli import app, run_guarded
from msdsr.errors import UserError
from msdsr.view import find_shown, napari_command, viewer_state
from msdsr.view.serve import Service
from msdsr.volume import VoxelSize, write_volume
from msdsr.volume.labels import Label, Value, write_labels

FINE, COARSE = VoxelSize(0.5, 0.25, 0.5), VoxelSize(1.0, 0.25, 0.5)
CHANNELS = ("CH2", "CH3")


@pytest.fixture
def slide(tmp_path, textured):
    """The folder of a slide in a cohort that keeps a truth."""
    folder = tmp_path / "a lab's/results/c/slides/s 1"
    voxels = textured((2, 9, 40, 48))
    for name in ("raw", "denoised"):
        write_volume(folder / f"{name}.ome.zarr", voxels[:, ::2], COARSE, CHANNELS)
    spec = write_volume(folder / "msdsr_2x.ome.zarr", voxels, FINE, CHANNELS)
    values = [Value(0, "none", (0, 0, 0, 0)), Value(1, "acquired", (1, 2, 255, 255))]
    fill = lambda region: np.ones(region.shape, np.uint8)  # noqa: E731
    write_labels(folder / "msdsr_2x.ome.zarr", spec, [Label("origin", values, fill)])
    spread = (voxels / 1000).astype(np.float32)
    write_volume(folder / "msdsr_2x_std.ome.zarr", spread, FINE, CHANNELS)
    write_volume(folder.parents[1] / "truth/s 1.ome.zarr", voxels, FINE, CHANNELS)
    return folder


def test_a_slide_shows_input_methods_truth_and_spread(slide):
    stores = find_shown([slide])
    assert [s.name for s in stores] == ["denoised", "msdsr_2x", "truth", "msdsr_2x_std"]
    assert [s.is_spread for s in stores] == [False, False, False, True]
    assert [label.name for label in stores[1].labels] == ["origin"]
    assert [s.name for s in find_shown([slide / "raw.ome.zarr", slide])][:2] == ["raw", "denoised"]


def test_stores_of_two_slides_have_different_names(slide, tmp_path):
    other = slide.with_name("s2") / "denoised.ome.zarr"
    write_volume(other, np.zeros((1, 2, 8, 8), np.uint8), FINE, ["a"])
    names = [s.name for s in find_shown([slide / "denoised.ome.zarr", other])]
    assert names == ["s 1/denoised", "s2/denoised"]


def test_the_state_has_spacing_windows_colours_and_labels(slide):
    stores = find_shown([slide])
    state = viewer_state(stores, [f"zarr://http://127.0.0.1:1/{n}/" for n in range(4)])
    assert {a: pytest.approx(d[0]) for a, d in state["dimensions"].items()} == {
        "x": 0.5e-6, "y": 0.25e-6, "z": 0.5e-6,
    }  # fmt: skip
    layers = {layer["name"]: layer for layer in state["layers"]}
    assert len(layers) == len(state["layers"]) == 9
    red, green = layers["msdsr_2x CH2"], layers["msdsr_2x CH3"]
    assert (red["localPosition"], green["localPosition"]) == ([0], [1])
    ome = json.loads((slide / "msdsr_2x.ome.zarr/zarr.json").read_text())["attributes"]["ome"]
    window = ome["omero"]["channels"][1]["window"]
    controls = green["shaderControls"]
    assert controls["contrast"]["range"] == [window["start"], window["end"]]
    assert controls["color"] == "#00FF00"
    label = layers["msdsr_2x origin"]
    assert label["source"].endswith("/1/labels/origin/")
    assert label["segments"] == ["1"]
    assert label["segmentColors"] == {"1": "#0102FF"}
    rows = state["layout"]["children"]
    assert [[v["layout"] for v in row["children"]] for row in rows] == [["xy"] * 4, ["xz"] * 4]
    assert viewer_state(stores[:1], ["zarr://x/"])["layout"] == "4panel"


def test_the_command_for_napari_is_one_for_a_shell(slide, capsys):
    stores = find_shown([slide])
    parts = shlex.split(napari_command(stores))
    assert parts[:3] == ["napari", "--plugin", "napari-ome-zarr"]
    assert parts[3:] == [str(s.path) for s in stores]
    arguments = ["view", str(slide), "--napari"]
    assert run_guarded(lambda: app(arguments, standalone_mode=False)) == 0
    assert shlex.split(capsys.readouterr().out) == parts


def get(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
        return answer.status, answer.read(), answer.headers


def test_the_service_gives_files_and_parts_of_them_to_those_who_know_the_secret(slide):
    store = slide / "msdsr_2x.ome.zarr"
    with Service(find_shown([store])) as service:
        assert service.url.startswith("http://127.0.0.1:")
        base, _, token = service.url.rstrip("/").partition("/v/")
        assert len(token) >= 32
        root = f"{base}/zarr/{token}/0"
        assert get(f"{root}/zarr.json")[1] == (store / "zarr.json").read_bytes()
        shard = next(p for p in sorted((store / "0").rglob("*")) if p.is_file() and not p.suffix)
        name = shard.relative_to(store).as_posix()
        status, part, headers = get(f"{root}/{name}", Range="bytes=-20")
        assert (status, part) == (206, shard.read_bytes()[-20:])
        assert headers["Cache-Control"] == "no-cache"
        assert get(f"{root}/{name}", Range="bytes=3-9")[1] == shard.read_bytes()[3:10]
        for refused in (
            f"{base}/zarr/guess/0/zarr.json",
            f"{base}/zarr/{token}/1/zarr.json",
            f"{root}/none",
            f"{root}/%2e%2e/raw.ome.zarr/zarr.json",
            f"{root}//etc/passwd",
            f"{base}/v/guess/",
        ):
            with pytest.raises(urllib.error.HTTPError, match=r"40[34]"):
                get(refused)
        assert b"neuroglancer" in get(service.url)[1]
        port = int(base.rpartition(":")[2])
        # Bound to loopback alone: any other address of this machine refuses.
        own = socket.gethostbyname(socket.gethostname())
        if not own.startswith("127."):
            with socket.socket() as other, pytest.raises(OSError, match="refused"):
                other.connect((own, port))
    with pytest.raises(urllib.error.URLError):
        get(service.url)


def test_what_goes_wrong_is_told_in_one_line(slide, tmp_path, monkeypatch, capsys):
    with pytest.raises(UserError, match="no such folder"):
        find_shown([tmp_path / "none"])
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="a file"):
        find_shown([tmp_path / "file"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no OME-Zarr store in it"):
        find_shown([tmp_path / "empty"])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="cannot be had"):
            Service(find_shown([slide]), taken.getsockname()[1])
    monkeypatch.setitem(sys.modules, "neuroglancer", None)
    assert run_guarded(lambda: app(["view", str(slide), "--no-open"], standalone_mode=False)) == 2
    error = capsys.readouterr().err
    assert error == (
        "msdsr: error: view: the package `neuroglancer` is not installed; "
        "pip install 'neuroglancer>=2.40'\n"
    )


def test_the_command_serves_until_it_is_asked_to_stop(slide):
    command = [sys.executable, "-m", "msdsr", "view", str(slide), "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout.readline() == "view: denoised, msdsr_2x, truth, msdsr_2x_std\n"
        url = running.stdout.readline().split()[1]
        assert b"neuroglancer" in get(url)[1]
        running.terminate()
        assert running.wait(120) == 0
