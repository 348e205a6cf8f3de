"""A real S3 server (SeaweedFS, from a wheel) in a folder of its own, for tests and for the drill of many machines."""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
from botocore.config import Config

from leaderboard_site.embedded.servers import free_port

BUCKET = "leadersboard"
_LIBC = ctypes.CDLL(None)
_KINDS = ("s3", "master", "volume", "filer")


def _die_with_parent() -> None:
    _LIBC.prctl(1, signal.SIGKILL)


class ObjectServer:
    """Start, stop and start again on the same address and data; `freeze` has it answer nobody."""

    def __init__(self, folder: Path, *, host: str = "127.0.0.1", within: tuple[str, ...] = ()) -> None:
        self.folder, self.host = folder, host
        self.within = within  # a command to run it by: `ip netns exec NAME`
        self.access_key, self.secret_key = "site", secrets.token_urlsafe(24)
        self.ports = {name: free_port() for kind in _KINDS for name in (kind, f"{kind}.grpc")}
        self.url = f"http://{host}:{self.ports['s3']}"
        self.process: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        """The settings that lead a site to it."""
        return {
            "STORAGE": "s3",
            "S3_BUCKET": BUCKET,
            "S3_ENDPOINT_URL": self.url,
            "S3_REGION": "us-east-1",
            "S3_ACCESS_KEY": self.access_key,
            "S3_SECRET_KEY": self.secret_key,
            "S3_ADDRESSING_STYLE": "path",
        }

    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(s3={"addressing_style": "path"}, connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 1}),
        )  # fmt: skip

    def start(self) -> None:
        data, config = self.folder / "data", self.folder / "s3.json"
        data.mkdir(parents=True, exist_ok=True)
        keys = {"accessKey": self.access_key, "secretKey": self.secret_key}
        actions = ["Admin", "Read", "Write", "List"]
        config.write_text(json.dumps({"identities": [{"name": "site", "credentials": [keys], "actions": actions}]}))
        config.chmod(0o600)
        options = [
            f"-dir={data}", f"-ip={self.host}", f"-ip.bind={self.host}", "-filer", "-s3", f"-s3.config={config}",
            "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false", "-volume.max=20",
            "-master.volumeSizeLimitMB=64", f"-filer.localSocket={self.folder / 'filer.sock'}",
            f"-s3.localSocket={self.folder / 's3.sock'}",
        ]  # fmt: skip
        for kind in _KINDS:
            options += [f"-{kind}.port={self.ports[kind]}", f"-{kind}.port.grpc={self.ports[f'{kind}.grpc']}"]
        with (self.folder / "weed.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.within, str(Path(sys.executable).with_name("weed")), "server", *options],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent,
            )  # fmt: skip

    def wait(self, *, seconds: float = 60) -> None:
        """Until an object can be stored: it answers seconds before that."""
        client, deadline = self.client(), time.monotonic() + seconds
        while True:
            try:
                try:
                    client.create_bucket(Bucket=BUCKET)
                except client.exceptions.ClientError as error:
                    if error.response["Error"]["Code"] not in ("BucketAlreadyExists", "BucketAlreadyOwnedByYou"):
                        raise
                client.put_object(Bucket=BUCKET, Key="ready", Body=b"x")
                client.delete_object(Bucket=BUCKET, Key="ready")
                return
            except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
                if time.monotonic() > deadline or (self.process and self.process.poll() is not None):
                    tail = (self.folder / "weed.log").read_text(errors="replace")[-1500:]
                    raise AssertionError(f"no S3 server at {self.url}: {error}\n{tail}") from error
            time.sleep(0.3)

    def freeze(self, is_frozen: bool = True) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP if is_frozen else signal.SIGCONT)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        for port in self.ports.values():
            for stale in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                stale.unlink(missing_ok=True)

    def names(self) -> set[str]:
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return {item["Key"] for page in pages for item in page.get("Contents", ())}

    def unfinished(self) -> list[str]:
        return [upload["Key"] for upload in self._uploads()]

    def _uploads(self) -> list[dict[str, Any]]:
        return list(self.client().list_multipart_uploads(Bucket=BUCKET).get("Uploads", ()))

    def empty(self) -> None:
        client = self.client()
        for key in self.names():
            client.delete_object(Bucket=BUCKET, Key=key)
        for upload in self._uploads():
            client.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
