import json
from pathlib import Path
from typing import get_args

import pytest
import yaml
from jsonschema import Draft202012Validator

from msdsr.config import Config, ModelConfig, Section
from msdsr.configfile import (
    check_config,
    read_config,
    render_docs,
    render_schema,
    render_yaml,
    section_of,
)
from msdsr.errors import UserError
from msdsr.presets import Kind

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("path", "render"),
    [
        ("config/config.yaml", render_yaml),
        ("workflow/schemas/config.schema.yaml", render_schema),
        ("docs/reference/config.md", render_docs),
    ],
)
def test_generated_files_are_current(path, render):
    assert (ROOT / path).read_text(encoding="utf-8") == render(), (
        f"{path} is stale: run `make generated`"
    )


def test_the_default_file_is_the_default_configuration():
    assert read_config(ROOT / "config/config.yaml") == Config()


def test_the_schema_accepts_every_shipped_configuration():
    schema = yaml.safe_load(render_schema())
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    files = sorted((ROOT / "config").glob("*.yaml"))
    assert files
    for path in files:
        validator.validate(yaml.safe_load(path.read_text()))
        read_config(path)


def sections(model, seen):
    if model not in seen:
        seen.add(model)
        for field in model.model_fields.values():
            if (inner := section_of(field)) is not None:
                sections(inner, seen)
    return seen


def test_every_key_has_a_meaning_and_all_but_names_a_default():
    found = sections(Config, set())
    assert len(found) > 10
    for section in found:
        assert issubclass(section, Section)
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name}"
            assert not field.is_required() or name in {"sheet", "model"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "superresolve: {factrs: [2]}",
            "superresolve.factrs: unknown key; .*you mean 'factors'",
        ),
        ("sed: 1", "sed: unknown key; .*did you mean 'seed'"),
        ("cohorts: {a: {sheet: s, model: m, modle: 1}}", "cohorts.a.modle: unknown key; .*'model'"),
        ("cohorts: {a: {model: phantom-tiny}}", "cohorts.a.sheet: missing"),
        ("superresolve: {factors: [9]}", "superresolve.factors"),
        (
            "cohorts: {a: {sheet: s, model: phantom-tiny, baseline_models: {ms_unet: m}}}",
            "baseline_models.ms_unet is 'm', which is not in models",
        ),
        (
            "cohorts: {a: {sheet: s, model: nix}}",
            "cohorts.a.model is 'nix', which is not",
        ),
        (
            "{cohorts: {a: {sheet: s, model: m}}, models: {m: {path: p, kind: ms_unet}}}",
            "cohorts.a.model is 'm', a model of kind ms_unet; expected one of kind msdsr",
        ),
        (
            (
                "{models: {m: {path: p}}, cohorts: {a: {sheet: s, model: m, baseline_models: "
                "{e2e_unet: m}}}}"
            ),
            "baseline_models.e2e_unet is 'm', a model of kind msdsr; expected one of kind e2e_unet",
        ),
        (
            "models: {m: {path: p, kind: rscd_prior, objective: {masks: paper}}}",
            "objective.masks is 'paper'; a model of kind rscd_prior has none",
        ),
        ("models: {m: {path: p, kind: unet}}", "models.m.kind: 'unet'; expected input should be"),
        ("denoise: {mode: rscd}", "denoise.prior is missing; mode rscd needs a model of kind"),
        (
            (
                "{denoise: {mode: rscd, prior: p, calibrator: p}, models: {phantom-tiny: {path: x},"
                " p: {kind: rscd_prior, cohorts: [demo]}}}"
            ),
            "denoise.prior is 'p', which is trained here, on denoised planes",
        ),
        ("models: {m: {preset: tiny}}", "a model needs either"),
        ("models: {m: {path: x, cohorts: [demo]}}", "either .* not both"),
        ("patch: {size: 0}", "patch.size: 0; expected input should be greater"),
        ("superresolve: {mode: zx}", "superresolve.mode: 'zx'; expected input should be 'xz'"),
        ("cohorts: {'../x': {sheet: s, model: m}}", "pattern"),
        ("{", "not YAML"),
        ("[1]", "a list at the top"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, text, message):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_config(path)
    assert "\n" not in caught.value.line()
    assert str(path) in caught.value.line()


def test_a_preset_fills_only_what_is_left_out():
    model = ModelConfig.model_validate(
        {"preset": "tiny", "cohorts": ["a"], "optimiser": {"batch": 7}}
    )
    assert model.optimiser.batch == 7
    assert model.optimiser.precision == "float32"
    assert model.network.block_out_channels[0] < 100
    assert ModelConfig.model_validate(json.loads(model.model_dump_json())) == model


def test_the_paper_preset_is_the_paper():
    model = ModelConfig.model_validate({"preset": "paper", "cohorts": ["a"]})
    assert model.objective.conditioning == "rows"
    assert model.objective.prediction == "epsilon"
    assert model.optimiser.learning_rate == 1e-7
    assert model.network.block_out_channels == [224, 448, 672, 896]


def test_a_checked_configuration_survives_being_dumped():
    config = Config()
    assert check_config(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"order": 2}, "choose order 1 or another mode"),
        ({"order": 2, "eta": 0.5, "mode": "joint"}, "needs `eta` 0 or 1, not 0.5"),
        ({"order": 3}, "order"),
    ],
)
def test_a_sampler_that_does_not_exist_is_refused(settings, says):
    with pytest.raises(UserError, match=says):
        check_config({"superresolve": settings}, "config.yaml")


@pytest.mark.parametrize("preset", ["paper", "default", "tiny"])
@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_recipe_is_whole_and_survives_its_own_json(kind, preset):
    model = ModelConfig.model_validate({"kind": kind, "preset": preset, "cohorts": ["a"]})
    again = ModelConfig.model_validate_json(model.model_dump_json())
    assert again == model
    if kind in ("ms_unet", "e2e_unet"):
        same = ModelConfig.model_validate({"preset": preset, "cohorts": ["a"]})
        assert model.network == same.network
        changed = {"learning_rate"}
        assert model.optimiser.model_dump(exclude=changed) == same.optimiser.model_dump(
            exclude=changed
        )
        assert model.optimiser.learning_rate == 1e-3
