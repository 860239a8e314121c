"""Plans of training: presets, files, changes, and what is wrong with them."""

import pytest

from histolatent.compact.losses import LOSSES
from histolatent.compact.plan import CompactionPlan, ObjectivePlan
from histolatent.errors import InputError, OptionError


@pytest.mark.parametrize("name", CompactionPlan.presets)
def test_presets_are_plans_and_say_what_they_are(name):
    plan = CompactionPlan.read(name)
    assert {"command", "hardware", "wall_time", "expected"} <= plan.about.keys()


def test_a_file_is_read(tmp_path):
    file = tmp_path / "plan.toml"
    file.write_text('backbone = "timm:vit_tiny_patch16_224"\n[states]\nviews = 4\n')
    plan = CompactionPlan.read(file)
    assert plan.backbone.startswith("timm:") and plan.states.views == 4
    assert plan.training == CompactionPlan().training


def test_changes_go_by_name_and_are_checked():
    plan = CompactionPlan().changed(**{"training.steps": 7, "tile_px": 48})
    assert (plan.training.steps, plan.tile_px) == (7, 48)
    with pytest.raises(InputError, match=r"training.stepz: is unknown.*did you mean 'steps'"):
        CompactionPlan().changed(**{"training.stepz": 7})
    with pytest.raises(InputError, match=r"training.steps: Input should be greater than or equal to 1"):
        CompactionPlan().changed(**{"training.steps": 0})


def test_the_losses_that_a_plan_may_name_are_those_that_there_are():
    assert set(ObjectivePlan.model_fields["loss"].annotation.__args__) == set(LOSSES)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tile_px = ", "is not TOML"),
        ("tile_pc = 64", "tile_pc: is unknown.*did you mean 'tile_px'"),
        ("[states]\nveiws = 2", "states.veiws: is unknown.*did you mean 'views'"),
        ("[states]\nviews = 1", "states.views: .*greater than or equal to 2"),
        ('[objective]\nloss = "barlov"', "objective.loss: .*'barlow'"),
        ("[objective]\ncompaction = 0\nreconstruction = 0", "nothing would be learnt"),
        ("[training]\nsteps = true", "training.steps"),
        ('[states]\nkind = "hed-light"', "hed-light does not go with whiten"),
        ('whiten = 0\n[states]\nkind = "hed-light"\nrender = "device"', "does not go with states.render"),
    ],
)
def test_a_wrong_plan_is_refused(tmp_path, text, said):
    file = tmp_path / "plan.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=said):
        CompactionPlan.read(file)


def test_neither_preset_nor_file():
    with pytest.raises(OptionError, match="did you mean 'demo'"):
        CompactionPlan.read("demos")
    with pytest.raises(OptionError, match="no such file"):
        CompactionPlan.read("mine.toml")
