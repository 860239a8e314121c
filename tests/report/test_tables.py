"""Tables: every model in one way, nothing lost, and headers where there is nothing."""

import numpy as np
import pandas as pd

from histolatent.audit.result import EncoderResult, EquivarianceResult, Figure, MapFigures
from histolatent.report import write_report
from histolatent.report.tables import LISTS, all_tables, columns_of, flatten, table


def test_every_list_of_the_result_is_a_table(audited):
    """A list of an encoder's result that is no table would be in audit.json only."""
    tables = all_tables(audited)
    lists = {name for name, field in EncoderResult.model_fields.items() if "list[" in str(field.annotation)}
    assert lists - set(LISTS) == {"doses", "batches", "factors"}  # in figures.csv, or tables of their own
    for name in LISTS:
        count = sum(len(getattr(item, name)) for item in audited.encoders)
        assert len(tables[name]) == count, name
    assert len(tables["comparisons"]) == len(audited.comparisons)
    assert len(tables["operations"]) == sum(len(operation.steps) for operation in audited.operations)


def test_a_figure_is_three_columns_and_a_part_has_its_name_in_front():
    figure = Figure(value=0.5, low=0.25, high=0.75)
    item = EquivarianceResult(
        operation="blur",
        severity=3,
        verdict="linear",
        reason="it is",
        move=figure,
        direction_consistency=None,
        shared_consistency=Figure(value=None),
        effective_rank=2.0,
        maps={"ridge": MapFigures(explained=figure, gap_closed=Figure(value=0.1), r2=figure)},
    )
    row = flatten(item)
    assert (row["move"], row["move_low"], row["move_high"]) == (0.5, 0.25, 0.75)
    assert row["ridge_explained_high"] == 0.75
    assert row["ridge_gap_closed"] == 0.1
    assert row["shared_consistency"] is None
    assert list(table([("e", item)], EquivarianceResult).columns)[:3] == ["encoder", "operation", "severity"]


def test_tables_come_back_from_the_folder(audited, tmp_path):
    out = write_report(audited, None, tmp_path / "audit")
    for name, frame in all_tables(audited).items():
        read = pd.read_csv(out / f"{name}.csv", keep_default_na=True)
        assert list(read.columns) == list(frame.columns), name
        assert len(read) == len(frame), name
    probes = pd.read_csv(out / "probes.csv")
    first = audited.encoders[0].probes[0]
    np.testing.assert_allclose(probes["balanced_accuracy_low"][0], first.balanced_accuracy.low)
    np.testing.assert_allclose(probes["neighbours"][0], first.neighbours.value)
    assert probes["classes"][0] == "; ".join(first.classes)


def test_a_distance_stands_beside_its_floor_its_rank_and_the_label(audited):
    frame = all_tables(audited)["batches"]
    wanted = {"value", "between", "floor", "floor_p95", "above_floor", "effective_rank", "label_accuracy"}
    assert wanted <= set(frame.columns)


def test_factors_are_there_as_they_are_and_after(audited):
    frame = all_tables(audited)["factors"]
    factors = audited.encoders[0].factors
    mine = frame[frame["encoder"] == audited.encoders[0].name]
    assert len(mine) == sum(1 + len(item.after) for item in factors)
    assert mine["operation"].isna().sum() == len(factors)


def test_an_empty_table_has_its_columns(audited):
    bare = audited.model_copy(update={"encoders": [], "comparisons": [], "operations": []})
    for name, frame in all_tables(bare).items():
        assert len(frame) == 0 and len(frame.columns), name
    full = all_tables(audited)
    for name, model in LISTS.items():
        if len(full[name]):
            assert set(columns_of(model)) <= {*full[name].columns, "maps", "crossing"}, name
