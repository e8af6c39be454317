"""The table of the best of N, on findings that are made up."""

from __future__ import annotations

import torch

from raekit.studies.scaling import Timing
from raekit.studies.tts_report import CEILING, ORACLE, PAPER, PAPER_TITLE, PRUNED, RANDOM, Findings, Judged, report_of

RIGHT = torch.tensor([[False, True, False, False], [False, False, True, True]])


def findings() -> Findings:
    knowing = Judged(RIGHT.float(), torch.tensor([[1.0, 0, 1, 0], [0, 0, 1, 1]]), seconds=0.5)
    return Findings(
        tasks=["counting", "colors"],
        sizes=[1, 2, 4],
        keeps=[1, 2],
        right={"templates": RIGHT, "probe": ~RIGHT},
        ceiling={"templates": torch.tensor([True, True]), "probe": torch.tensor([True, False])},
        judged={"knowing": knowing},
        timing=Timing(2.0, 0.0, 1.0),
        walked=0.5,
        settings={"seed": 0},
    )


def test_the_rows_of_the_table() -> None:
    report = report_of(findings())
    groups = dict(report.groups)
    best = dict(groups["right in the eyes of templates, best 1 of N"])
    assert list(best) == [RANDOM, ORACLE, "knowing", f"knowing, {PRUNED}", CEILING]
    assert best[RANDOM] == ["0.375 ± 0.000"] * 3
    assert best[ORACLE] == best["knowing"] == ["0.375 ± 0.000", "0.500 ± 0.000", "1.000 ± 0.000"]
    # The only right one of the first prompt was heading nowhere and is dropped.
    assert best[f"knowing, {PRUNED}"][2] == "0.500 ± 0.000" and best[CEILING] == ["1.000 ± 0.000", "-", "-"]
    two = dict(groups["right in the eyes of templates, best 2 of N"])
    assert two["knowing"] == ["-", "0.375 ± 0.000", "0.750 ± 0.000"]
    # Another checker's table has its own oracle; who knows what the first one wants is wrong to it.
    other = dict(groups["right in the eyes of probe, best 1 of N"])
    assert other[ORACLE][2] == "1.000 ± 0.000" and other["knowing"][2] == "0.000 ± 0.000"


def test_what_it_costs() -> None:
    groups = dict(report_of(findings()).groups)
    seconds = dict(groups["seconds for each picture kept, best 1 of N"])
    shares = dict(groups["share of them that verification takes, best 1 of N"])
    assert seconds[RANDOM] == ["3", "3", "3"] and seconds["knowing"] == ["3.5", "6", "11"]
    assert shares["knowing"][2] == f"{2 / 11:.1%}"
    assert seconds[f"knowing, {PRUNED}"] == ["-", "5.5", "10"]


def test_the_papers_numbers_stand_beside() -> None:
    report = report_of(findings())
    rows = dict(dict(report.groups)[PAPER_TITLE])
    assert rows["no verifier"] == ["0.532", "-", "-"] and list(rows) == list(PAPER)
    assert report.figures["paper"]["answer logits"] == {8: 0.596, 16: 0.625, 32: 0.643}
    assert report.plot.width > report.plot.height
