"""One S3 server for the tests here, started when the first of them asks for it."""

from contextlib import contextmanager

import pytest
from django.core.files.storage import storages

from object_storage.server import BUCKET, ObjectServer


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    server = ObjectServer(tmp_path_factory.mktemp("s3"))
    server.start()
    try:
        server.wait()
        yield server
    finally:
        server.stop()


def files_at(url, server):
    """STORAGES' part for the bucket at this address."""
    keys = {
        "bucket_name": BUCKET,
        "endpoint_url": url,
        "access_key": server.access_key,
        "secret_key": server.secret_key,
        "region_name": "us-east-1",
        "addressing_style": "path",
        "file_overwrite": True,
        "object_parameters": {"ContentType": "binary/octet-stream"},
    }
    return {
        name: {"BACKEND": "submissions.object_storage.ObjectStorage", "OPTIONS": {**keys, "location": name}}
        for name in ("submissions", "artifacts")
    }


@pytest.fixture
def s3(s3_server, settings):
    """The site's files in the bucket, which is empty at the end."""
    settings.STORAGES = settings.STORAGES | files_at(s3_server.url, s3_server)
    yield s3_server
    s3_server.empty()


@pytest.fixture
def s3_away(s3_server, settings):
    """`with s3_away():` nobody answers at the server's address."""

    @contextmanager
    def away():
        before = settings.STORAGES
        settings.STORAGES = before | files_at("http://127.0.0.1:9", s3_server)
        yield
        settings.STORAGES = before

    return away


@pytest.fixture
def submissions(s3):
    return storages["submissions"]


@pytest.fixture
def artifacts(s3):
    return storages["artifacts"]
