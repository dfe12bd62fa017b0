import dataclasses

import numpy as np
import pandas as pd
import pytest

from msdsr.config import SuperresolveConfig
from msdsr.errors import UserError
from msdsr.manifest import read_manifest
from msdsr.metrics.similarity import ssim
from msdsr.superresolve import superresolve
from msdsr.tables import TABLES, make_table
from msdsr.tables.slices import by_interpolation, draw_crops
from msdsr.tables.tables import paired_rows
from msdsr.tables.volumes import blur_store, read_slicefid
from msdsr.volume import open_volume


def table(source, number):
    page = make_table(number, source)[1]
    return page, pd.read_csv(page.with_suffix(".csv")).set_index("method")


def test_table_1_compares_restored_crops_with_what_they_were(source):
    page, wide = table(source, 1)
    assert list(wide.index) == ["nearest", "linear", "cubic", "ms_unet", "msdsr"]
    assert list(wide.columns) == [
        f"{f}× {metric}" for f in (2, 4, 8) for metric in ("FID", "SSIM", "PSNR")
    ]
    assert np.isfinite(wide.to_numpy()).all()
    assert (wide["2× SSIM"] > wide["8× SSIM"]).all()
    assert wide.loc["linear", "2× PSNR"] > wide.loc["msdsr", "2× PSNR"], "a network of noise"
    crops = draw_crops(source.slides("val"), 10, source.config.seed)
    linear = by_interpolation("linear")(crops, 4)
    expected = np.mean(
        [ssim(a, b, np.array(source.real.peaks)) for a, b in zip(linear, crops, strict=True)]
    )
    assert wide.loc["linear", "4× SSIM"] == pytest.approx(expected)
    assert "10 XY crops" in page.read_text()
    assert "24 rows hidden at 2×, 36 rows hidden at 4×, 42 rows hidden at 8×" in page.read_text()
    assert read_manifest(page).stage == "tables"


def test_a_fill_sees_nothing_of_the_hidden_rows_and_keeps_the_others(tissue):
    crops = tissue(9, (2, 3, 48, 48)).swapaxes(0, 1)
    for method in ("nearest", "linear", "cubic"):
        fill = by_interpolation(method)
        hidden = crops.copy()
        hidden[:, :, np.arange(48) % 8 != 0] = 7
        restored = fill(hidden, 8)
        assert restored.shape == crops.shape
        np.testing.assert_array_equal(restored, fill(crops, 8))
        np.testing.assert_array_equal(restored[:, :, ::8], crops[:, :, ::8])
        np.testing.assert_array_equal(restored[:, :, 41:], restored[:, :, 40:41].repeat(7, 2))


def test_table_1_of_the_papers_protocol_is_a_page_of_its_own(source):
    paper = dataclasses.replace(source, protocol="paper")
    page, wide = table(paper, 1)
    assert page.name == "table1_paper.md"
    v2 = table(source, 1)[1]
    pd.testing.assert_series_equal(wide["2× SSIM"], v2["2× SSIM"])
    assert wide.loc["linear", "8× FID"] != v2.loc["linear", "8× FID"]


def test_table_2_is_what_the_workflow_has_measured(source):
    page, wide = table(source, 2)
    assert list(wide.columns) == [f"2× {c}" for c in ("XY", "YZ", "XZ", "SliceFID")]
    assert {"nearest", "linear", "acquired"} <= set(wide.index)
    metrics = read_slicefid(source.metrics, "window", "v2")
    row = metrics[(metrics["method"] == "linear") & (metrics["plane"] == "mean")]
    assert wide.loc["linear", "2× SliceFID"] == pytest.approx(row["value"].item())
    assert "no slide has a true volume" in page.read_text()


def test_tables_3_and_4_restore_in_other_ways_once(source):
    _, wide = table(source, 3)
    assert list(wide.index) == [
        "MSDSR-XZ",
        "MSDSR-YZ",
        "MSDSR average (Eq. 9)",
        "MSDSR alternate (configured)",
    ]
    assert np.isfinite(wide.to_numpy()).all()
    stores = sorted(source.folder.glob("slides/*/*.ome.zarr"))
    assert len(stores) == 4
    made = {store: store.stat().st_mtime_ns for store in stores}
    page, soft = table(source, 4)
    assert {store: store.stat().st_mtime_ns for store in stores} == made, "restored again"
    assert list(soft.index) == [f"{way} + blur" for way in wide.index]
    rows = make_table(4, source)[0].rows.set_index(["row", "column"])
    for way in wide.index:
        change = rows.loc[(f"{way} + blur", "SliceFID")]
        assert change["value"] - change["delta"] == pytest.approx(wide.loc[way, "2× SliceFID"])
    assert "(+" in page.read_text() or "(-" in page.read_text()


def test_a_stored_volume_blurs_to_what_the_stage_would_have_made(source, tmp_path):
    files = source.slides("infer")[0]
    stores = {}
    for blur in ("none", "gaussian3"):
        stores[blur] = tmp_path / f"{blur}_2x.ome.zarr"
        superresolve(
            files.volume, stores[blur], tmp_path / blur, method="msdsr", factor=2,
            settings=SuperresolveConfig(steps=1, mode="xz", blur=blur),
            model=source.model("msdsr"), seed=1, device="cpu", patches=files.patches,
        )  # fmt: skip
    blur_store(stores["none"], tmp_path / "soft_2x.ome.zarr")
    found, expected = (
        open_volume(path).data.compute()
        for path in (tmp_path / "soft_2x.ome.zarr", stores["gaussian3"])
    )
    np.testing.assert_array_equal(found, expected)
    assert (found != open_volume(stores["none"]).data.compute()).any()


def test_the_command_prints_the_table(project, run):
    config = ["--config", project / "config.yaml", "--results", project / "results"]
    said = run("evaluate", "--table", 2, *config, "--device", "cpu").output
    assert "# Table 2: 3D restoration" in said
    assert "table2.md and table2.csv" in said
    assert read_manifest(project / "results/tiny/tables/table2.md").counts["table"] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--table", 5], "1, 2, 3 or 4"),
        (["--table", 1, "--cohort", "other"], "one of tiny"),
        (["--table", 1, "--inception", "none.pt"], "no Inception network"),
    ],
)
def test_a_mistake_is_one_line(project, run, arguments, said):
    config = ["--config", project / "config.yaml", "--results", project / "results"]
    with pytest.raises(UserError, match=said):
        run("evaluate", *arguments, *config)


def test_without_the_workflow_there_is_nothing_to_tell(source, tmp_path):
    bare = dataclasses.replace(source, results=tmp_path)
    for number in TABLES:
        with pytest.raises(UserError, match="run the workflow"):
            make_table(number, bare)


def test_a_protocol_that_was_not_evaluated_is_named(source):
    with pytest.raises(UserError, match=r"evaluate\.protocols"):
        make_table(2, dataclasses.replace(source, protocol="paper"))


def test_table_2_shows_the_whole_volumes_scores_where_there_are_any(tmp_path):
    rows = [
        ("linear", "mean", "all", "PSNR", 30.0, 9),
        ("linear", "3D", "all", "PSNR", 31.0, 2),
        ("linear", "3D", "CH2", "PSNR", 99.0, 2),
        ("linear", "mean", "all", "SSIM", 0.8, 9),
        ("linear", "XY", "all", "SSIM", 0.7, 9),
        ("linear", "z", "all", "LSD", 2.0, 9),
    ]
    path = tmp_path / "paired.csv"
    columns = ["method", "plane", "channel", "metric", "value", "n"]
    pd.DataFrame(rows, columns=columns).assign(factor=2).to_csv(path, index=False)
    found = paired_rows(path).set_index("column")["value"]
    assert found.to_dict() == {"PSNR": 31.0, "SSIM": 0.8}
    assert paired_rows(tmp_path / "none.csv").empty
