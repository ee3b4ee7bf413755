"""Every fenced block of the pages is marked, and what its commands name exists; tests/test_docs_run.py runs them."""

import ast
import json
import re
from pathlib import Path

import pytest
import yaml

from carryover.train import recipe
from carryover_kfp import pod_options
from tests.support import command_words
from tests.support.page_blocks import ROOT, Block, blocks, pages

PAGES = [pytest.param(page, id=str(page.relative_to(ROOT))) for page in pages()]
BLOCKS = [block for page in pages() for block in blocks(page)]
SHELL, DATA = {"sh", "bash", "console"}, {"yaml", "json"}
_INLINE = re.compile(r"(?<!`)`(carryover (?!--)[^`\n]+)`(?!`)")
# None of ours has an underscore: --input_configs is of another program.
_FLAG = re.compile(r"(?<!`)`(--[a-z][a-z-]+)(?![\w-])[^`\n]*`(?!`)")


def _place(block: Block) -> str:
    return block.where


@pytest.mark.parametrize("block", BLOCKS, ids=_place)
def test_every_block_says_what_becomes_of_it(block: Block) -> None:
    """A drawing or output is called text; all else is run, parsed, or has its reason."""
    assert not block.strange, f"{block.where}: none of the marks: {block.strange}"
    assert block.language, f"{block.where}: has no language; a drawing or output is ```text"
    if block.language == "text":
        assert not re.search(r"^(carryover|make|pip) ", block.text, re.MULTILINE), f"{block.where}: is sh, not text"
        return
    assert block.mark, f"{block.where}: mark it as run, run by, parsed as, or not run with its reason"
    assert block.said, f"{block.where}: '{block.mark}' says nothing"
    if block.mark == "not run":
        assert len(block.said.split()) >= 3, f"{block.where}: '{block.said}' is no reason"
    if block.mark == "parsed as":
        assert block.said in PARSERS and block.language in DATA


@pytest.mark.parametrize("block", [one for one in BLOCKS if one.mark == "run by"], ids=_place)
def test_a_block_that_another_test_runs_is_read_by_it(block: Block) -> None:
    name, _, file = block.said.partition(" as ")
    text = (ROOT / name).read_text(encoding="utf-8")
    if file:
        assert (ROOT / file).read_text(encoding="utf-8").strip() == block.text.strip(), f"{block.where} is not {file}"
        return
    nodes = ast.walk(ast.parse(text))
    words = [one.value for one in nodes if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    assert any(word.rpartition("/")[2] == block.page.name for word in words), f"{name} does not read {block.page.name}"


def a_recipe(text: str) -> None:
    recipe.make(recipe.given(text))


def a_profile(text: str, folder: Path) -> None:
    (folder / "own.yaml").write_text(text, encoding="utf-8")
    assert pod_options.effective(pod_options.Flags(profile=str(folder / "own.yaml")))


PARSERS = {
    "recipe": lambda text, folder: a_recipe(text),
    "profile": a_profile,
    "yaml": lambda text, folder: list(yaml.safe_load_all(text)),
    "json": lambda text, folder: json.loads(text),
}


@pytest.mark.parametrize("block", [one for one in BLOCKS if one.language in DATA], ids=_place)
def test_data_can_be_read(block: Block, tmp_path: Path) -> None:
    PARSERS[block.said if block.mark == "parsed as" else block.language](block.text, tmp_path)


@pytest.mark.parametrize("block", [one for one in BLOCKS if one.language == "python"], ids=_place)
def test_python_can_be_parsed(block: Block) -> None:
    ast.parse(block.text)


@pytest.mark.parametrize("page", PAGES)
def test_commands_flags_and_keys_exist(page: Path) -> None:
    """In all shell blocks, those that nobody runs too, and in the running text."""
    found = [(block.where, said) for block in blocks(page) if block.language in SHELL for said in _wrong(block)]
    text = page.read_text(encoding="utf-8")
    inline = [words for words in _INLINE.findall(text) if not words.startswith("carryover/")]
    found += [(words, said) for words in inline for said in command_words.wrong(words)]
    # Decisions name what was tried and is gone.
    spelled = _FLAG.findall(text) if page.name != "decisions.md" else []
    unknown = {flag for flag in spelled if flag not in command_words.flags_of_sources()}
    assert found == [] and unknown == set()


def _wrong(block: Block) -> list[str]:
    return [*command_words.wrong(block.setup), *command_words.wrong(block.text)]


@pytest.mark.parametrize("page", PAGES)
def test_files_that_commands_name_are_there(page: Path) -> None:
    named = {
        word.rstrip("/.,;")
        for block in blocks(page)
        if block.language in SHELL
        for word in re.findall(r"(?<![\w./-])(?:examples|manifests|profiles|images|tools)/[\w./-]+", block.text)
    }
    assert {one for one in named if not (ROOT / one).exists()} == set()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("carryover train-dpd --dataset data", "no such command: carryover train-dpd"),
        ("carryover train-ddp --datset data", "carryover train-ddp has no flag --datset"),
        ("carryover checkpoint ls HOME --all-of-them", "carryover checkpoint ls has no flag --all-of-them"),
        ("X=1 carryover train-ddp --set optimization.lerning_rate=1", "no such recipe key: optimization.lerning_rate"),
        ("carryover train-ddp \\\n    --dataset d --set seed=1 optim.patiens=2", "no such recipe key: optim.patiens"),
        ("carryover run train --param sauce=a.csv", "the pipeline train has no parameter sauce"),
        ("true && carryover evaluate --modle m", "carryover evaluate has no flag --modle"),
        ('train="carryover train-ddp\n    --made-up"\n$train', "carryover train-ddp has no flag --made-up"),
        ("make tset", "no such verb: make tset"),
        ("python -m benchmarks.nothing", "no such module: benchmarks.nothing"),
    ],
)
def test_a_wrong_command_is_found(text: str, said: str) -> None:
    assert command_words.wrong(text) == [said]


def test_what_is_right_is_left_alone() -> None:
    text = """carryover train-ddp --dataset URI --set optim.lr=1e-4 model.names='[hf_text]' --nproc-per-node 2 || true
        carryover compile|submit --image NAME; kubectl label namespace carryover some=label
        carryover COMMAND --help"""
    assert command_words.wrong(text) == []


def test_marks_are_read(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- a remark -->\n\n<!-- setup: a=1\nb=2 -->\n<!-- run: here -->\n```sh\necho $a\n```\n\n```python\nx\n```\n"
        "<!-- sam -->\n```text\n```\n````sh\n```inside\n````\n",
        encoding="utf-8",
    )
    found = list(blocks(page))
    assert [(one.mark, one.said, one.language) for one in found] == [
        ("run", "here", "sh"),
        ("", "", "python"),
        ("", "", "text"),
        ("", "", "sh"),
    ]
    assert (found[0].setup, found[0].text, found[2].strange) == ("a=1\nb=2", "echo $a\n", ("sam",))
