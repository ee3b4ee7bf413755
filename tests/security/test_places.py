"""Places that people and files name: allowed schemes only, nothing chained, nothing outside a file's own folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from carryover.data.manifest import CARD, load_card
from carryover.ground.errors import WrongInput
from carryover.models import card as model_card
from carryover.models import hf_source
from carryover.models.card import ModelFile, digest_of
from carryover.models.export import find_model
from carryover.steps.evaluate import evaluate
from carryover.steps.preflight import preflight
from carryover.steps.prepare_data import prepare_data
from carryover.steps.train_ddp import train_ddp
from carryover.train.outcome import model_of
from tests.train.attempts import Run, dataset, write_rows


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that only the right scheme may lead to."""
    return write_rows(tmp_path / "secret.csv")


def uris(secret: Path) -> list[str]:
    return [
        f"simplecache::file://{secret}",
        f"filecache::file://{secret}",
        f"zip://rows.csv::file://{secret}",
        f"file://{secret}::simplecache",
        f"local://{secret}",
        f"reference://{secret}",
        "reference::https://169.254.169.254/latest/meta-data",
        "http://169.254.169.254/latest/meta-data/rows.csv",
        "https://example.org/rows.csv",
        "ftp://example.org/rows.csv",
        "sftp://example.org/rows.csv",
        "smb://host/share/rows.csv",
        "github://owner:repository@main/rows.csv",
        "data:text/csv;base64,eA==/rows.csv::file://",
        "git://rows.csv",
        "jupyter://host/rows.csv",
    ]


def everywhere(uri: str, good: str, store: str) -> dict[str, Callable[[], Any]]:
    return {
        "source": lambda: prepare_data(source=[uri], label="liked", store=store),
        "validation-source": lambda: prepare_data(source=[good], validation_source=[uri], label="liked", store=store),
        "prepare store": lambda: prepare_data(source=[good], label="liked", store=uri),
        "dataset": lambda: train_ddp(dataset=uri, store=store),
        "train store": lambda: train_ddp(dataset=good, store=uri),
        "model": lambda: evaluate(model=uri, dataset=[good], store=store),
        "evaluate store": lambda: evaluate(model=f"{good}.json", dataset=[good], store=uri),
        "preflight store": lambda: preflight(store=uri),
        "recipe": lambda: train_ddp(dataset=good, store=store, recipe=uri),
        "checkpoint": lambda: hf_source.check_source(uri, pretrained=True),
    }


def refusal(use: Callable[[], Any]) -> str:
    """What it says of the wrong input, "" when it takes it."""
    try:
        use()
    except WrongInput as error:
        return str(error)
    return ""


def test_only_allowed_schemes_and_no_chains(secret: Path, tmp_path: Path) -> None:
    """For every parameter that names a place; nothing is written, and nothing of the file is shown."""
    store, taken = tmp_path / "store", []
    for uri in uris(secret):
        for name, use in everywhere(uri, str(secret), str(store)).items():
            said = refusal(use)
            if not said or "\n" in said or "x,y,kind" in said:
                taken.append((name, uri, said))
    assert taken == []
    assert [path for path in store.rglob("*") if path.is_file() and not path.name.startswith("probe")] == []


OUTSIDE = ["../../secret", "/etc/passwd", "a/../../secret", "./x", "a//b", "..\\secret", "", "s3://bucket/../x"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_dataset_card_cannot_name_files_outside_its_folder(tmp_path: Path, name: str) -> None:
    card = dataset(tmp_path)
    path = Path(card.at, CARD)
    value = json.loads(path.read_text())
    value["splits"]["train"]["shards"][0]["file"] = name
    path.write_text(json.dumps(value))
    with pytest.raises(WrongInput, match=r"dataset\.json: names the file .* not inside its own folder; it is not read"):
        load_card(card.at)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("finished")
    run = Run(dataset(folder), str(folder / "store"), {"optimization.max_epochs": 1}, folder)
    run.go()
    return run


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_model_card_cannot_name_files_outside_its_folder(finished: Run, tmp_path: Path, name: str) -> None:
    """Also one whose digest is right."""
    value = json.loads(finished.home.read_files(finished.finish())[model_card.CARD])
    value["files"][name] = {"size": 1, "blake3": "0" * 64}
    value["digest"] = digest_of({one: ModelFile(**file) for one, file in value["files"].items()})
    (tmp_path / model_card.CARD).write_text(json.dumps(value))
    with pytest.raises(WrongInput, match=r"model\.json: names the file .* not inside its own folder; it is not read"):
        find_model(str(tmp_path))


def test_a_runs_own_model_is_made_of_the_files_of_its_card_only(finished: Run) -> None:
    card, files, _ = model_of(finished.home, finished.finish())
    assert {*files, model_card.WEIGHTS} == {*card.files}


@pytest.mark.parametrize("key", ["../../elsewhere", "/etc", "a/b", "..", ".hidden", "", "s3://bucket"])
def test_a_run_key_names_a_folder_of_the_store_only(finished: Run, key: str) -> None:
    with pytest.raises(WrongInput):
        evaluate(model=f"run:{key}", dataset=[finished.card.at], store=finished.store)
    if key:
        with pytest.raises(WrongInput):
            train_ddp(dataset=finished.card.at, store=finished.store, run_key=key)


YAML_CODE = "!!python/object/apply:os.mkdir [{proof}]"


@pytest.mark.parametrize("form", ["seed: {code}\n", "{code}\n"])
def test_yaml_makes_no_objects(tmp_path: Path, form: str) -> None:
    proof = tmp_path / "proof"
    text = form.format(code=YAML_CODE.format(proof=proof))
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    for recipe in (text, str(path)):
        with pytest.raises(WrongInput, match=r"^recipe( .*)?: no YAML: "):
            preflight(store=str(tmp_path / "store"), recipe=recipe)
    with pytest.raises(WrongInput, match=r"the value is no YAML"):
        preflight(store=str(tmp_path / "store"), overrides=[f"seed={YAML_CODE.format(proof=proof)}"])
    assert not proof.exists()
    # The control: a loader that is not safe does it.
    yaml.unsafe_load(text)
    assert proof.exists()
