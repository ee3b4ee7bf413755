# pyright: reportMissingImports=false
"""What s3torchconnector writes and reads in a second: `s3_throughput.py ENDPOINT URI BYTES`, one JSON line."""

import json
import sys
import time

from s3torchconnector import S3Checkpoint, S3ClientConfig


def main() -> None:
    """Write and read an object of so many bytes, each timed by wall and CPU of this process; the first time is lost."""
    endpoint, uri, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
    config = S3ClientConfig(force_path_style=True)
    checkpoint = S3Checkpoint(region="us-east-1", endpoint=endpoint, s3client_config=config)
    data = bytes(range(256)) * (size >> 8)
    marks = []
    for _ in range(2):
        marks = [(time.monotonic(), time.process_time())]
        with checkpoint.writer(uri) as file:
            file.write(data)
        marks.append((time.monotonic(), time.process_time()))
        with checkpoint.reader(uri) as file:
            whole = file.read()
        marks.append((time.monotonic(), time.process_time()))
        assert whole == data
    (a, b), (c, d), (e, f) = marks
    print(json.dumps({"put_s": c - a, "put_cpu_s": d - b, "get_s": e - c, "get_cpu_s": f - d}))


main()
