import json

import pytest

from msdsr.needs import (
    LONGEST_MINUTES,
    NEEDS,
    TYPICAL_MB,
    estimated_mb,
    memory_mb,
    minutes,
    recorded_mb,
)

SLIDE = {"channels": 2, "planes": 20, "rows": 1000, "columns": 1000, "dtype": "uint16"}


def test_the_size_of_a_slide_is_in_its_manifest(tmp_path):
    manifest = tmp_path / "raw.json"
    assert recorded_mb(manifest) is None
    manifest.write_text(json.dumps({"counts": SLIDE}))
    assert recorded_mb(manifest) == TYPICAL_MB == 80
    manifest.write_text(json.dumps({"counts": SLIDE | {"dtype": "float32"}}))
    assert recorded_mb(manifest) == 160


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"counts": {}}', '{"counts": null}'])
def test_a_manifest_that_says_nothing_stops_no_plan(tmp_path, text):
    (tmp_path / "raw.json").write_text(text)
    assert recorded_mb(tmp_path / "raw.json") is None


def test_before_ingest_the_raw_file_tells(tmp_path):
    assert estimated_mb(tmp_path / "not there.tif") == TYPICAL_MB
    (tmp_path / "slide.tif").write_bytes(bytes(3_000_000))
    assert estimated_mb(tmp_path / "slide.tif") == 3
    (tmp_path / "slide.images.tsv").write_text("a list of files\n")
    assert estimated_mb(tmp_path / "slide.images.tsv") == TYPICAL_MB


# Peaks in MB, slides of 80 and 320 MB: what was measured fits into what is asked for.
MEASURED = {
    "ingest": (484, 964),
    "patch": (309, 444),
    "denoise": (334, 444),
    "images": (404, 444),
    "superresolve": (1240, 1450),
}


@pytest.mark.parametrize("stage", MEASURED)
def test_what_was_measured_fits_with_half_as_much_to_spare(stage):
    for megabytes, peak in zip((80, 320), MEASURED[stage], strict=True):
        assert 1.4 * peak < memory_mb(stage, megabytes) - 250


@pytest.mark.parametrize("stage", NEEDS)
def test_a_further_attempt_gets_more_and_nothing_asks_for_more_than_a_day(stage):
    assert memory_mb(stage, 80, 2) >= 2 * memory_mb(stage, 80) - 450
    assert minutes(stage, 80, 2) == min(2 * minutes(stage, 80), LONGEST_MINUTES)
    assert minutes(stage, 1e6) == LONGEST_MINUTES
