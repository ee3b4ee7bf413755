"""The fixtures themselves: a server that keeps S3's promises, a model folder that opens offline."""

import subprocess
import sys
from pathlib import Path

import boto3
import botocore.exceptions
import pytest

from tests.support import s3_server as s3


def _client(env: dict[str, str]):
    return boto3.client(
        "s3",
        endpoint_url=env["AWS_ENDPOINT_URL"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        region_name=env["AWS_DEFAULT_REGION"],
    )


def test_s3_server_honours_put_if_absent(s3_env: dict[str, str], s3_store_uri: str) -> None:
    client = _client(s3_env)
    key = s3_store_uri.split("/", 3)[3] + "/once"
    client.put_object(Bucket=s3.BUCKET, Key=key, Body=b"first", IfNoneMatch="*")
    with pytest.raises(botocore.exceptions.ClientError) as lost:
        client.put_object(Bucket=s3.BUCKET, Key=key, Body=b"second", IfNoneMatch="*")
    assert lost.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    assert client.get_object(Bucket=s3.BUCKET, Key=key)["Body"].read() == b"first"


def test_each_server_starts_serves_and_leaves_nothing() -> None:
    server = s3.start("moto")
    assert [b["Name"] for b in _client(server.env).list_buckets()["Buckets"]] == [s3.BUCKET]
    server.stop()
    assert not server.folder.exists()
    assert all(process.returncode is not None for process in server.processes)


def test_tiny_bert_opens_offline_by_its_folder(tiny_bert: Path) -> None:
    program = (
        "import sys, torch\n"
        "from transformers import AutoModel, AutoTokenizer\n"
        "tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])\n"
        "batch = tokenizer(['a good movie', 'zyx'], padding=True, return_tensors='pt')\n"
        "assert tokenizer.unk_token_id not in batch['input_ids'], batch\n"
        "print(batch['input_ids'].tolist()[0][:2], tokenizer.convert_ids_to_tokens(batch['input_ids'][1]))\n"
        "print(tuple(AutoModel.from_pretrained(sys.argv[1])(**batch).last_hidden_state.shape))\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, tiny_bert], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "['[CLS]', 'z', '##y', '##x', '[SEP]']" in ended.stdout
    assert "(2, 5, 32)" in ended.stdout
