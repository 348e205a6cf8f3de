"""Whatever the bytes: a manifest or ArchiveRefused, the same from both doors, nothing outside the folder."""

import gzip
import hashlib
import io
import tarfile
import tempfile
import unicodedata
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from submissions.archive import (
    DEFAULT_LIMITS,
    ArchiveKind,
    ArchiveLimits,
    ArchiveRefused,
    ManifestEntry,
    check_path,
    extract_archive,
    inspect_archive,
    write_archive,
)
from submissions.tests.archives import GOOD_ARCHIVES, Playground, inspect_as_it_comes

# A mutated size may ask for much; what is tested here does not depend on how much.
LIMITS = ArchiveLimits(total_bytes=1_000_000, file_bytes=500_000, members=50)

SMALL_FILES = {
    "main.py": b"print('hello')\n" * 30,
    "設定/モデル.yaml": "しきい値: 0.5\n".encode() * 20,
    "empty": b"",
    f"{'n' * 60}/{'m' * 60}.txt": b"long",
}
SEEDS = {form: (kind, pack(SMALL_FILES)) for form, (kind, pack) in GOOD_ARCHIVES.items()}
KINDS = st.sampled_from(["zip", "tar.gz", "tar"])

Outcome = list[ManifestEntry] | tuple[str, str]


def read_by_both_doors(data: bytes, kind: ArchiveKind) -> Outcome:
    inspected: Outcome
    extracted: Outcome
    try:
        inspected = inspect_archive(io.BytesIO(data), kind=kind, limits=LIMITS)
    except ArchiveRefused as refusal:
        inspected = refusal.code, refusal.message
        assert refusal.message.isprintable()
        assert len(refusal.message) < 2000
    with tempfile.TemporaryDirectory() as root:
        playground = Playground(Path(root))
        try:
            extracted = extract_archive(io.BytesIO(data), kind=kind, destination=playground.inside, limits=LIMITS)
        except ArchiveRefused as refusal:
            extracted = refusal.code, refusal.message
            playground.assert_nothing_left()
        else:
            playground.assert_nothing_outside()
            found = [
                ManifestEntry(path, len(content), hashlib.sha256(content).hexdigest())
                for path, content in playground.contents().items()
            ]
            assert sorted(found, key=str) == sorted(extracted, key=str)
    assert inspected == extracted
    assert_the_same_as_it_comes(data, kind, inspected)
    return inspected


def assert_the_same_as_it_comes(data: bytes, kind: ArchiveKind, inspected: Outcome) -> None:
    """A third door, which an upload goes through."""
    try:
        found = inspect_as_it_comes(data, kind, LIMITS, max(1, len(data) // 3))
    except ArchiveRefused as refusal:
        assert isinstance(inspected, tuple)
        assert refusal.code == inspected[0]
    else:
        assert isinstance(inspected, list)
        assert found == [ManifestEntry(entry.path, entry.bytes, "") for entry in inspected]


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=3000), kind=KINDS)
@example(data=b"PK\5\6" + bytes(18), kind="zip")
@example(data=bytes(1024), kind="tar")
@example(data=b"\x1f\x8b", kind="tar.gz")
def test_any_bytes(data: bytes, kind: ArchiveKind) -> None:
    read_by_both_doors(data, kind)


def mutate(data: bytes, draw: st.DrawFn) -> bytes:
    """A few bytes changed, cut out, put in or doubled, but not in the zeros at the end."""
    mutated = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(mutated.rstrip(b"\0")) - 1)))
        length = draw(st.sampled_from([1, 1, 1, 2, 4, 8, 12, 100, 512]))
        match draw(st.sampled_from(["change", "change", "cut", "insert", "double", "truncate", "swap"])):
            case "change":
                known = [b"\0", b"\xff", b"PK", b"../", b"/", b"7", b"2", b"x", b"L", b"\x80"]
                new = draw(st.one_of(st.sampled_from(known), st.binary(min_size=1, max_size=8)))
                mutated[at : at + len(new)] = new
            case "cut":
                del mutated[at : at + length]
            case "insert":
                mutated[at:at] = draw(st.binary(min_size=1, max_size=16))
            case "double":
                mutated[at:at] = mutated[at : at + length]
            case "truncate":
                del mutated[at:]
            case "swap":
                other = draw(st.integers(0, len(mutated)))
                mutated[at : at + length] = mutated[other : other + length]
    return bytes(mutated)


def with_right_checksums(data: bytes) -> bytes:
    """The headers pass their first check again, so that a mutation reaches what lies behind it."""
    repaired = bytearray(data)
    for start in range(0, len(data) - 511, 512):
        if data[start + 257 : start + 262] == b"ustar":
            header = repaired[start : start + 512]
            total = sum(header[:148]) + 8 * 32 + sum(header[156:])
            repaired[start + 148 : start + 156] = b"%06o\0 " % total
    return bytes(repaired)


@settings(max_examples=600, deadline=None)
@given(form=st.sampled_from(list(SEEDS)), drawn=st.data())
def test_any_mutation_of_a_good_archive(form: str, drawn: st.DataObject) -> None:
    kind, seed = SEEDS[form]
    read_by_both_doors(drawn.draw(st.composite(lambda draw: mutate(seed, draw))()), kind)


@settings(max_examples=600, deadline=None)
@given(form=st.sampled_from([f for f in SEEDS if f.startswith("tar ")]), in_gzip=st.booleans(), drawn=st.data())
def test_any_mutation_behind_right_checksums(form: str, in_gzip: bool, drawn: st.DataObject) -> None:
    data = with_right_checksums(drawn.draw(st.composite(lambda draw: mutate(SEEDS[form][1], draw))()))
    if in_gzip:
        read_by_both_doors(gzip.compress(data), "tar.gz")
    else:
        read_by_both_doors(data, "tar")


NAMES = st.one_of(
    st.lists(
        st.sampled_from(["a", "A", "b", "..", ".", "", "ß", "SS", "か\u3099", "が", "._x", "\u202e", "d" * 101]),
        min_size=1,
        max_size=5,
    ).map("/".join),
    st.text(min_size=1, max_size=20),
)
TAR_KINDS = [tarfile.REGTYPE] * 6 + [tarfile.DIRTYPE] * 3 + [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]


@settings(max_examples=400, deadline=None)
@given(
    members=st.lists(st.tuples(NAMES, st.sampled_from(TAR_KINDS), st.binary(max_size=600)), max_size=6),
    form=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_any_tree_of_names(members: list[tuple[str, bytes, bytes]], form: int) -> None:
    """What is taken is exactly what check_path and the rule against doubles leave."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, encoding="utf-8", errors="surrogatepass") as archive:
        for name, kind, content in members:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "a"
            entry.size = len(content) if kind == tarfile.REGTYPE else 0
            archive.addfile(entry, io.BytesIO(content))
    outcome = read_by_both_doors(buffer.getvalue(), "tar")
    if isinstance(outcome, list):
        assert {kind for _, kind, _ in members} <= {tarfile.REGTYPE, tarfile.DIRTYPE}
        folded = [unicodedata.normalize("NFC", entry.path).casefold() for entry in outcome]
        assert len(set(folded)) == len(folded)


@settings(max_examples=500, deadline=None)
@given(name=st.one_of(NAMES, st.text(max_size=300)))
def test_any_name(name: str) -> None:
    try:
        path = check_path(name, DEFAULT_LIMITS)
    except ArchiveRefused as refusal:
        assert refusal.code == "bad_file_name"
        assert refusal.message.isprintable()
        return
    assert check_path(path, DEFAULT_LIMITS) == path
    assert unicodedata.is_normalized("NFC", path)
    assert not set(path.split("/")) & {"", ".", ".."}
    assert len(path.encode()) <= 240


@settings(max_examples=200, deadline=None)
@given(files=st.dictionaries(NAMES, st.binary(max_size=2000), min_size=1, max_size=5))
def test_what_we_pack_we_read(files: dict[str, bytes]) -> None:
    target = io.BytesIO()
    try:
        manifest = write_archive(target, [(name, io.BytesIO(content)) for name, content in files.items()])
    except ArchiveRefused:
        return
    assert read_by_both_doors(target.getvalue(), "tar") == manifest
