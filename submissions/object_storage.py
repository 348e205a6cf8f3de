"""S3 as a storage that behaves like a folder: what is missing is FileNotFoundError, and every other failure an OSError.

django-storages' own fetches a whole object before its first byte can be read, into memory at that, lets five kinds of
exceptions through, and waits for minutes where nobody answers. All names below are django-storages'.
"""

import functools
import io
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar, cast

import urllib3.exceptions
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.core.files.base import File
from s3transfer.exceptions import RetriesExceededError
from storages.backends.s3 import S3Storage
from storages.utils import clean_name

from core.sizes import MIB

# Short, because a person or a job waits: what does not answer is away, and callers know what to do then.
CONNECT_SECONDS, READ_SECONDS, TRIES = 3, 20, 2
REOPENINGS = 3
_AWAY = (ClientError, BotoCoreError, Boto3Error, RetriesExceededError, urllib3.exceptions.HTTPError)
F = TypeVar("F", bound=Callable[..., Any])


class ObjectStorageError(OSError):
    """The server is away, or refused; its words are in the message."""


def _as_os_error(error: Exception, name: str) -> OSError:
    status = error.response["ResponseMetadata"].get("HTTPStatusCode") if isinstance(error, ClientError) else None
    code = error.response.get("Error", {}).get("Code") if isinstance(error, ClientError) else None
    if status == 404 and code != "NoSuchBucket":
        return FileNotFoundError(f"There is no object called {name!r}.")
    return ObjectStorageError(f"{name}: {type(error).__name__}: {error}")


def _translated(method: F) -> F:
    @functools.wraps(method)
    def call(self: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, name, *args, **kwargs)
        except _AWAY as error:
            raise _as_os_error(error, name) from error

    return cast(F, call)


class ObjectStorage(S3Storage):
    """Uploads in parts with a bounded buffer; an upload that fails leaves no object."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        limits = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": TRIES},
            # The newer trailing checksums are refused by many servers that speak S3; SigV4 covers the body as before.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        self.client_config: Config = self.client_config.merge(limits)
        self.transfer_config = TransferConfig(
            multipart_threshold=16 * MIB, multipart_chunksize=8 * MIB, max_concurrency=2
        )
        self.transfer_config.max_in_memory_upload_chunks = 2  # of s3transfer's own; boto3 does not pass it on

    def replace(self, name: str, source: Path) -> str:
        """An object made of a file, in the place of what has its name, which is returned."""
        self.delete(name)
        with source.open("rb") as content:
            return str(self.save(name, File(content, name=source.name)))

    @_translated
    def _open(self, name: str, mode: str = "rb") -> File:
        if mode != "rb":
            raise ValueError("Objects are read, or saved whole.")
        key = self._normalize_name(clean_name(name))
        reader = ObjectReader(self.connection.meta.client, self.bucket_name, key)
        return File(io.BufferedReader(reader, MIB), name=name)

    @_translated
    def _save(self, name: str, content: File) -> str:
        return str(super()._save(name, content))

    @_translated
    def delete(self, name: str) -> None:
        super().delete(name)

    @_translated
    def exists(self, name: str) -> bool:
        return bool(super().exists(name))

    @_translated
    def listdir(self, path: str) -> tuple[list[str], list[str]]:
        return cast(tuple[list[str], list[str]], super().listdir(path))

    @_translated
    def size(self, name: str) -> int:
        return int(super().size(name))

    @_translated
    def get_modified_time(self, name: str) -> datetime:
        return cast(datetime, super().get_modified_time(name))

    def unfinished_uploads(self) -> list[tuple[str, str, datetime]]:
        """(key, upload id, begun at) of uploads in parts that were neither finished nor given up: they cost space."""
        pages = self.connection.meta.client.get_paginator("list_multipart_uploads")
        try:
            found = [
                (upload["Key"], upload["UploadId"], upload["Initiated"])
                for page in pages.paginate(Bucket=self.bucket_name, Prefix=f"{self.location}/" if self.location else "")
                for upload in page.get("Uploads", ())
            ]
        except _AWAY as error:
            raise _as_os_error(error, self.bucket_name) from error
        return found

    def give_up_upload(self, key: str, upload_id: str) -> None:
        try:
            self.connection.meta.client.abort_multipart_upload(Bucket=self.bucket_name, Key=key, UploadId=upload_id)
        except _AWAY as error:
            raise _as_os_error(error, key) from error


class ObjectReader(io.RawIOBase):
    """An object as a seekable stream, from the network as it is read; a connection that breaks is opened again there.

    Reading stays within the object that was opened: should another be stored under its name meanwhile, it fails.
    """

    def __init__(self, client: Any, bucket: str, key: str) -> None:
        self._client, self._bucket, self._key = client, bucket, key
        self._position = self._body_at = 0
        answer = client.get_object(Bucket=bucket, Key=key)
        self._body: Any = answer["Body"]
        self._size, self._etag = int(answer["ContentLength"]), answer["ETag"]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._size - self._position)
        if wanted <= 0:
            return 0
        for remaining in reversed(range(REOPENINGS)):
            try:
                data = self._read(wanted)
            except _AWAY as error:
                self._drop()
                if not remaining:
                    raise _as_os_error(error, self._key) from error
                continue
            if data:
                buffer[: len(data)] = data
                self._position += len(data)
                self._body_at = self._position
                return len(data)
            self._drop()  # it ended too early
        raise ObjectStorageError(f"{self._key}: ended after {self._position} of {self._size} bytes")

    def _read(self, wanted: int) -> bytes:
        if self._body is None or self._body_at != self._position:
            self._drop()
            answer = self._client.get_object(
                Bucket=self._bucket, Key=self._key, Range=f"bytes={self._position}-", IfMatch=self._etag
            )
            self._body, self._body_at = answer["Body"], self._position
        return bytes(self._body.read(wanted))

    def _drop(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None

    def close(self) -> None:
        if not self.closed:
            self._drop()
        super().close()
