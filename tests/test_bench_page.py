"""docs/performance.md as its generator writes it, from planted results."""

import json
import re
from pathlib import Path

import pytest

from benchmarks import page
from benchmarks.peers import programs, setup
from benchmarks.peers.programs import PEERS, REQUIREMENTS, Absent
from tests.support.page_blocks import ROOT, blocks

MACHINE = {"cores": 2, "cpu": "a CPU", "memory_gib": 23, "gpu": "none", "system": "Linux", "python": "3.11.7",
           "torch": "2.12.1", "transformers": "5.23.0"}  # fmt: skip
GOAL = {"row": "b", "what": "loop blocked on disk", "ours": 0.25, "low": 0.2, "high": 0.31, "floor": 0,
        "reach": "<= 0.1", "why": "the lock | of a dict", "peer": "torch.save 14", "reached": False}  # fmt: skip
STALL = {
    "topic": "stall",
    "command": "python -m benchmarks.stall",
    "machine": MACHINE,
    "load": {"start": [0.1, 0.1, 0.1], "end": [6.5, 0.1, 0.1]},
    "goals": [GOAL],
    "figures": {
        "disk / carryover": {"blocked_s": [0.001, 0.002, 0.0031], "written_bytes": [260e6]},
        "disk / torch.save": {"blocked_s": [0.2, 0.21, 0.22]},
        "memory": {"peak_bytes": [1.5e9]},
    },
    "notes": ["the state is that of ViT-S with AdamW"],
    "peers": {"torch-checkpointing": "0.1.1", "torchsnapshot": "could not be installed: no wheel"},
}


@pytest.fixture
def results(tmp_path: Path) -> dict[str, page.Result]:
    (tmp_path / "stall.json").write_text(json.dumps(STALL))
    return page.read(tmp_path)


def test_a_goal_stands_beside_its_bound_and_its_floor(results: dict[str, page.Result]) -> None:
    text = page.page(results)
    assert "| b | loop blocked on disk | **0.25** (0.2 to 0.31): missed | <= 0.1 | 0 |" in text
    assert "(#saves)): The lock | of a dict. Other programs: torch.save 14." in text
    # A row that nobody measured is not left out.
    assert "| d | throughput of the object store over a raw client | not measured yet | | |" in text
    assert "Not measured yet: `python -m benchmarks.throughput`." in text


def test_figures_are_medians_with_their_spread_in_the_unit_of_their_name(results: dict[str, page.Result]) -> None:
    text = page.page(results)
    assert "| disk | blocked (s) | written (MB) |" in text
    assert "| carryover | 0.002 (0.001 to 0.0031) | 260 |" in text
    assert "| torch.save | 0.21 (0.2 to 0.22) |  |" in text
    assert "| torchsnapshot | could not be installed: no wheel |" in text
    assert "load 6.5 on 2 cores" in text and "No GPU was at hand" in text


def test_the_page_and_its_pictures_are_the_same_for_the_same_figures(
    results: dict[str, page.Result], tmp_path: Path
) -> None:
    made = []
    for name in ("one", "other"):
        page.plot(results, tmp_path / name)
        made.append({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()})
    assert made[0] == made[1]
    text = page.page(results)
    assert made[0].keys() == {"goals.svg", "stall-disk.svg"}
    assert all(f"(pictures/performance/{name})" in text for name in made[0])
    assert all(len(content) < 40_000 for content in made[0].values())


def test_the_page_says_what_the_committed_results_say() -> None:
    results = page.read(ROOT / "benchmarks" / "results")
    assert page.PAGE.read_text(encoding="utf-8") == page.page(results), "python -m benchmarks.page writes it anew"
    shown = set(re.findall(r"\(pictures/performance/([^)]+)\)", page.page(results)))
    assert shown == {path.name for path in (page.PAGE.parent / page.PICTURES).iterdir()}


def test_goals_of_one_row_are_apart_in_the_picture() -> None:
    long = "tensor bytes uploaded over tensor bytes that changed since the last commit, "
    goals = [{**GOAL, "what": long + what} for what in ("all of it", "LoRA")] + [{**GOAL, "ours": -3.0}]
    assert len(page._distances({"stall": {**STALL, "goals": goals}})) == 3


def test_every_block_of_the_page_is_marked(results: dict[str, page.Result], tmp_path: Path) -> None:
    (tmp_path / "performance.md").write_text(page.page(results))
    assert [block.mark for block in blocks(tmp_path / "performance.md")] == ["not run"] * 3


@pytest.mark.parametrize(
    ("value", "words"), [(0.0, "0"), (1234567.0, "1,234,567"), (12.345, "12.3"), (0.000123, "0.000123"), (-3.2, "-3.2")]
)
def test_numbers_have_three_figures(value: float, words: str) -> None:
    assert page.number(value) == words


def test_what_other_programs_need_is_pinned_to_the_torch_of_this_project() -> None:
    assert {path.stem for path in REQUIREMENTS.glob("*.txt")} == PEERS.keys()
    shared = dict(line.split("==") for line in setup.shared_pins())
    for name in PEERS:
        lines = programs.requirements(name).read_text().splitlines()
        pinned = dict(line.split(" ")[0].split("==") for line in lines)
        assert pinned["torch"] == shared["torch"], name
        assert PEERS[name].shown in pinned, name


def test_a_peer_that_is_not_there_has_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "ENVIRONMENTS", tmp_path)
    with pytest.raises(Absent, match=r"python -m benchmarks\.peers\.setup automm"):
        programs.python_of("automm")
    (tmp_path / "automm.why").write_text("could not be installed: no disk\n")
    assert programs.versions("automm") == {"autogluon-multimodal": "could not be installed: no disk"}
    assert (ROOT / ".gitignore").read_text().splitlines().count("build/") == 1
