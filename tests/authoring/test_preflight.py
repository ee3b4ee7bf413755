"""The step preflight: each thing that can be known to be wrong is one clear error, and nothing is read in full."""

import json
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from carryover.ground.errors import WrongInput
from carryover.steps.preflight import preflight
from tests.support.last_words import error_of


@pytest.fixture
def table(tmp_path):
    pq.write_table(pa.table({"text": ["a", "b"], "label": [0, 1]}), tmp_path / "table.parquet")
    (tmp_path / "table.csv").write_text('"text, quoted",label\na,1\n')
    (tmp_path / "table.tsv").write_text("text\tlabel\na\t1\n")
    (tmp_path / "table.jsonl").write_text('{"text": "a"}\n{"text": "b", "label": 1}\n')
    return tmp_path


def test_all_is_well(table, tmp_path):
    sources = [str(table / f"table.{kind}") for kind in ("parquet", "csv", "tsv", "jsonl")]
    result = preflight(
        store=str(tmp_path / "store"),
        recipe="optimization:\n  max_epochs: 2\n",
        overrides=["seed=3"],
        source=sources,
        label="label",
        output=str(tmp_path / "out"),
        outputs_dir=str(tmp_path / "outputs"),
    )
    assert result["conditional_writes"] is True
    assert result["files"] == 4
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == result
    assert (tmp_path / "outputs" / "store").read_text() == str(tmp_path / "store")
    assert list((tmp_path / "store").iterdir()) == [], "the probe leaves nothing"


@pytest.mark.parametrize("kind", ["parquet", "csv", "tsv"])
def test_a_label_that_is_not_there(table, tmp_path, kind):
    with pytest.raises(WrongInput, match=f"table.{kind}: label: there is no column 'lable'; did you mean 'label'"):
        preflight(store=str(tmp_path / "store"), source=[str(table / f"table.{kind}")], label="lable")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"recipe": "optimization:\n  max_epoch: 2\n"}, "optimization.max_epoch"),
        ({"recipe": "nowhere.yaml"}, "nowhere.yaml"),
        ({"overrides": ["seed"]}, "must be KEY=VALUE"),
        ({"overrides": ["seed=-1"]}, "seed: -1 is not possible"),
        ({"source": ["table.csv"]}, "label: missing"),
        ({"source": ["table.csv", "none*.csv"], "label": "label"}, "none*.csv: no file found"),
        ({"validation_source": ["none.csv"], "label": "label"}, "none.csv: no file found"),
        ({"source": ["broken.parquet"], "label": "label"}, "broken.parquet: can't be read"),
        ({"source": ["empty.csv"], "label": "label"}, "empty.csv"),
        ({"store": "ftp://there"}, "scheme 'ftp' is not supported"),
        ({"store": "/proc/none"}, "store /proc/none: can't be written"),
    ],
)
def test_one_clear_error(table, tmp_path, monkeypatch, flags, said):
    monkeypatch.chdir(table)
    (table / "broken.parquet").write_bytes(b"PAR1 and then nothing")
    (table / "empty.csv").write_text("\n")
    with pytest.raises(WrongInput) as caught:
        preflight(**{"store": str(tmp_path / "store"), **flags})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("store", "said"), [("", "store: missing"), ("/data/store", "inside this pod"), ("memory://x", "inside this pod")]
)
def test_a_store_inside_a_pod_is_refused(monkeypatch, store, said):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(WrongInput, match=said):
        preflight(store=store)


def test_an_object_store_in_a_pod(s3_store_uri, monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    result = preflight(store=s3_store_uri)
    assert result["store"] == s3_store_uri


def test_an_object_store_without_credentials(carryover_cli, s3_env, tmp_path):
    none = dict.fromkeys([name for name in s3_env if "KEY" in name or "TOKEN" in name], "")
    env = {**none, "HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    ended = carryover_cli("preflight", "--store", "s3://bucket/carryover", env=env)
    assert ended.rc == 2
    assert "no credentials found" in ended.stderr


def test_the_command_says_it_in_one_line(carryover_cli, table, tmp_path):
    ended = carryover_cli("preflight", "--source", table / "table.csv", "--label", "labell", "--store", tmp_path / "s")
    assert ended.rc == 2
    assert "did you mean 'label'" in error_of(ended.stderr)
    ended = carryover_cli("preflight", "--source", table / "table.csv", "--label", "label", "--store", tmp_path / "s")
    assert ended.rc == 0, ended.stderr
    assert ended.stdout.startswith("preflight: all is well")


def test_torch_is_not_loaded(carryover_cli, tmp_path):
    import subprocess

    code = (
        "from carryover.steps.preflight import preflight; import sys; "
        "preflight(store=sys.argv[1]); assert 'torch' not in sys.modules and 'kfp' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "store")], check=True)
