"""The blocks of the pages that say `run`: each group is typed into a shell, in an empty folder, as it stands."""

from pathlib import Path

import pytest

from tests.support import page_sandbox
from tests.support.page_blocks import ROOT, Block, groups, pages

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

GROUPS = [
    pytest.param(blocks, id=f"{page.relative_to(ROOT)}:{name}")
    for page in pages()
    for name, blocks in groups(page).items()
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page_sandbox.made(tmp_path_factory.mktemp("made"))


@pytest.mark.parametrize("blocks", GROUPS)
def test_the_commands_of_a_page_work(blocks: list[Block], made: Path, tmp_path: Path) -> None:
    folder = page_sandbox.sandbox(tmp_path / "here")
    ended = page_sandbox.run(page_sandbox.script(blocks), folder, {"MADE": str(made)})
    said = ended.stdout[-4000:] + ended.stderr[-6000:]
    assert ended.returncode == 0, said
    # A step that fails behind `|| true` would go unseen.
    assert "Traceback" not in said
