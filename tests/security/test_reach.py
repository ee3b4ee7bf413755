"""What lies in an object store names stores only: no file of the machine that happens to read it."""

import json
import shutil
import uuid
from pathlib import Path

import pytest

from carryover.carry.backbone import find_backbone
from carryover.data.manifest import CARD, load_card
from carryover.ground import storage
from carryover.ground.errors import WrongInput
from carryover.models.export import find_model
from carryover.steps.dump_backbone import dump_backbone
from carryover.steps.prepare_data import prepare_data
from tests.train.attempts import Run, dataset

ONLY_STORES = "a place on this machine; what lies in a store may only name stores"


@pytest.fixture
def there() -> str:
    """An empty folder that is not on this machine's disk."""
    return f"memory://{uuid.uuid4().hex}"


def pictures(folder: Path, count: int = 60) -> list[Path]:
    """So many pictures, each of another colour."""
    from PIL import Image

    folder.mkdir()
    paths = [folder / f"scan-{number:02}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.new("RGB", (8, 8), (200, number, 10)).save(path)
    return paths


@pytest.mark.parametrize("form", ["{path}", "file://{path}"])
def test_a_table_in_a_store_cannot_take_pictures_of_this_machine(there: str, tmp_path: Path, form: str) -> None:
    secrets = pictures(tmp_path / "secret")
    rows = "\n".join(f"{form.format(path=path)},{'ab'[number % 2]}" for number, path in enumerate(secrets))
    storage.open_store(there).write("rows.csv", f"picture,kind\n{rows}\n".encode())
    given = {"label": "kind", "column_types": {"picture": "image_path"}}
    with pytest.raises(WrongInput, match=ONLY_STORES):
        prepare_data(source=[f"{there}/rows.csv"], store=str(tmp_path / "store"), **given)
    # Nobody needs to say what the column is: it is then no column of pictures.
    prepared = prepare_data(source=[f"{there}/rows.csv"], label="kind", store=str(tmp_path / "store"))
    assert load_card(prepared["uri"]).schema.column("picture").type not in ("image", "image_path")
    # The control: beside it on the disk it is read.
    (tmp_path / "rows.csv").write_text(f"picture,kind\n{rows}\n")
    prepare_data(source=[str(tmp_path / "rows.csv")], store=str(tmp_path / "store"), **given)


def test_annotations_in_a_store_cannot_take_pictures_of_this_machine(there: str, tmp_path: Path) -> None:
    secrets = pictures(tmp_path / "secret")
    coco = {
        "images": [{"id": i, "file_name": str(path), "width": 8, "height": 8} for i, path in enumerate(secrets)],
        "annotations": [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 4, 4]} for i in range(len(secrets))],
        "categories": [{"id": 1, "name": "thing"}],
    }
    storage.open_store(there).write("instances.json", json.dumps(coco).encode())
    with pytest.raises(WrongInput, match=ONLY_STORES):
        prepare_data(source=[f"{there}/instances.json"], label="", store=str(tmp_path / "store"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("finished")
    run = Run(dataset(folder), str(folder / "store"), {"optimization.max_epochs": 1}, folder)
    run.go()
    return run


def test_a_card_in_a_store_cannot_lead_to_this_machine(finished: Run, there: str, tmp_path: Path) -> None:
    """A card alone, as an artifact may be: its files would be taken from `at`, which is right only on a disk."""
    backbone = find_backbone(dump_backbone(model="run:run", store=finished.store)["uri"])
    model = find_model("run:run", store=finished.store)
    for place, file, opened in (
        (finished.card.at, CARD, load_card),
        (model.folder.uri, "model.json", find_model),
        (backbone.folder.uri, "backbone.json", find_backbone),
    ):
        assert json.loads(Path(place, file).read_text())["at"] == place
        alone, whole = (storage.open_store(f"{there}/{file}/{name}") for name in ("alone", "whole"))
        alone.upload(Path(place, file), file)
        with pytest.raises(WrongInput, match=ONLY_STORES):
            opened(alone.at(file))
        # The controls: a copy of the whole opens there, and the card alone from a disk.
        for path in filter(Path.is_file, Path(place).rglob("*")):
            whole.upload(path, path.relative_to(place).as_posix())
        assert opened(whole.at(file))
        shutil.copy(Path(place, file), tmp_path)
        assert opened(str(tmp_path / file))
