"""One form, read by the lane's parser and by Django's, gets the same answer and stores the same bytes."""

import random

import pytest
from django.core.files.storage import storages

from submissions.models import Submission
from tests.api.conftest import left_files
from tests.api.test_lane_large import zipped

pytestmark = pytest.mark.django_db

NOISE = random.Random(5).randbytes(3 * 1024 * 1024)
EDGE = b"--edge"
NAMED = b'Content-Disposition: form-data; name="files"; filename="main.py"'
FIELD = b'Content-Disposition: form-data; name="entrypoint"\r\n\r\nmain.py'


def part(head, content=b"print()"):
    return head + b"\r\n\r\n" + content


def named(value):
    return part(b"Content-Disposition: form-data; " + value)


def form(*parts, line=b"\r\n", end=b"--\r\n"):
    return b"".join(EDGE + line + one + line for one in parts) + EDGE + end


PLAIN = form(part(NAMED))
KIND = "multipart/form-data; boundary=edge"
# name: (body, content type)
FORMS = {
    "plain": (PLAIN, KIND),
    "boundary in quotes": (PLAIN, 'multipart/form-data; boundary="edge"'),
    "boundary in one quote": (PLAIN, 'multipart/form-data; boundary="edge'),
    "another parameter first": (PLAIN, "multipart/form-data; charset=utf-8; boundary=edge"),
    "a charset behind": (PLAIN, "multipart/form-data; boundary=edge; charset=latin-1"),
    "the boundary twice": (PLAIN, "multipart/form-data; boundary=edge; boundary=other"),
    "the type in capitals": (PLAIN, "Multipart/Form-Data; boundary=edge"),
    "a boundary with a blank": (PLAIN.replace(b"edge", b"ed ge"), 'multipart/form-data; boundary="ed ge"'),
    "an extended boundary": (PLAIN, "multipart/form-data; boundary*=utf-8''edge"),
    "a boundary of 70": (PLAIN.replace(b"edge", b"e" * 70), f"multipart/form-data; boundary={'e' * 70}"),
    "a boundary of 71": (PLAIN.replace(b"edge", b"e" * 71), f"multipart/form-data; boundary={'e' * 71}"),
    "line feeds alone": (PLAIN.replace(b"\r\n", b"\n"), KIND),
    "carriage returns alone": (PLAIN.replace(b"\r\n", b"\r"), KIND),
    "a line feed before the boundary": (form(part(NAMED, b"print()\n") + b"\n" + EDGE, line=b"\r\n"), KIND),
    "the boundary within a line": (form(part(NAMED, b"print()" + EDGE + b"\r\nx")), KIND),
    "the boundary within a line, ended": (form(part(NAMED, b"print()" + EDGE + b"--\r\nx")), KIND),
    "the boundary behind a line feed": (form(part(NAMED, b"print()\n" + EDGE + b"\r\n" + FIELD)), KIND),
    "the boundary behind a carriage return": (form(part(NAMED, b"print()\r" + EDGE + b"\r\n" + FIELD)), KIND),
    "the boundary at the start of a file": (form(part(NAMED, EDGE + b"\r\n" + FIELD)), KIND),
    "the boundary with one letter more": (form(part(NAMED, b"print()\r\n" + EDGE + b"x")), KIND),
    "blanks behind the boundary": (PLAIN.replace(b"edge\r\n", b"edge  \r\n"), KIND),
    "two line ends before the boundary": (form(part(NAMED, b"print()\r\n\r\n")), KIND),
    "dashes in the content": (form(part(NAMED, b"--\r\n--edg\r\n-edge")), KIND),
    "a file without content": (form(part(NAMED, b"")), KIND),
    "a file without its line end": (EDGE + b"\r\n" + NAMED + b"\r\n\r\n" + EDGE + b"--\r\n", KIND),
    "a head without content": (form(NAMED), KIND),
    "a preamble": (b"hello\r\n" + PLAIN, KIND),
    "an empty line first": (b"\r\n" + PLAIN, KIND),
    "an epilogue": (PLAIN + b"bye\r\n", KIND),
    "an epilogue with the boundary": (PLAIN + PLAIN, KIND),
    "no line end at the end": (PLAIN[:-2], KIND),
    "no final boundary": (PLAIN[: -len(EDGE) - 4], KIND),
    "a final boundary without dashes": (form(part(NAMED), end=b"\r\n"), KIND),
    "one dash at the end": (form(part(NAMED), end=b"-\r\n"), KIND),
    "cut in the content": (PLAIN[:-20], KIND),
    "nothing": (b"", KIND),
    "the end alone": (EDGE + b"--\r\n", KIND),
    "a name without quotes": (form(named(b"name=files; filename=main.py")), KIND),
    "names in one kind of quotes": (form(named(b"name='files'; filename='main.py'")), KIND),
    "the file's name first": (form(named(b'filename="main.py"; name="files"')), KIND),
    "an escaped quote": (form(named(b'name="files"; filename="ma\\"in.py"')), KIND),
    "percents": (form(named(b'name="files"; filename="ma%22in%2e.py"')), KIND),
    "an extended name": (form(named(b"name=\"files\"; filename*=UTF-8''main.py")), KIND),
    "both names": (form(named(b"name=\"files\"; filename=\"a.py\"; filename*=UTF-8''main.py")), KIND),
    "both names, the other first": (form(named(b"name=\"files\"; filename*=UTF-8''a.py; filename=\"main.py\"")), KIND),
    "an HTML reference": (form(named(b'name="files"; filename="main&#46;py"')), KIND),
    "a path": (form(named(b'name="files"; filename="/etc/main.py"')), KIND),
    "a path of Windows": (form(named(b'name="files"; filename="C:\\code\\main.py"')), KIND),
    "a name that is not ASCII": (form(named('name="files"; filename="名.py"'.encode())), KIND),
    "a name that is not UTF-8": (form(named(b'name="files"; filename="\xff.py"')), KIND),
    "an empty file name": (form(named(b'name="files"; filename=""')), KIND),
    "an empty file name, then a file": (form(named(b'name="files"; filename=""'), part(NAMED)), KIND),
    "the file as a field": (form(named(b'name="files"')), KIND),
    "a field as a file": (form(part(NAMED), named(b'name="metadata"; filename="a.txt"')), KIND),
    "another field's file": (form(part(NAMED), named(b'name="more"; filename="a.txt"')), KIND),
    "no name": (form(part(NAMED), named(b'filename="a.txt"')), KIND),
    "a name with a blank": (form(named(b'name=" files "; filename="main.py"')), KIND),
    "blanks in the disposition": (form(named(b'  name = "files" ;  filename="main.py"')), KIND),
    "names in capitals": (form(named(b'Name="files"; FileName="main.py"')), KIND),
    "the disposition in capitals": (form(part(NAMED.replace(b"form-data", b"FORM-DATA"))), KIND),
    "the header in capitals": (form(part(NAMED.replace(b"Disposition", b"DISPOSITION"))), KIND),
    "no blank behind the colon": (form(part(NAMED.replace(b": ", b":"))), KIND),
    "a folded header": (form(part(NAMED.replace(b"; filename", b";\r\n filename"))), KIND),
    "two dispositions": (form(part(NAMED + b"\r\n" + NAMED.replace(b"main", b"other"))), KIND),
    "a field twice": (form(part(NAMED), FIELD, FIELD.replace(b"main", b"other")), KIND),
    "an unknown field": (form(part(NAMED), named(b'name="more"')), KIND),
    "a submission name": (form(part(NAMED), named(b'name="name"')[:-7] + " 名前 ".encode()), KIND),
    "a submission name that is not UTF-8": (form(part(NAMED), named(b'name="name"')[:-7] + b"a\xff"), KIND),
    "a submission name with a line end": (form(part(NAMED), named(b'name="name"')[:-7] + b"a\r\nb"), KIND),
    "a field that is not UTF-8": (form(part(NAMED), named(b'name="metadata"')[:-7] + b"\xff"), KIND),
    "a field with its charset": (
        form(part(NAMED), b'Content-Disposition: form-data; name="metadata"\r\n'
             b"Content-Type: text/plain; charset=latin-1\r\n\r\n" + '{"a": "é"}'.encode("latin-1")), KIND,
    ),
    "base64": (form(part(NAMED + b"\r\nContent-Transfer-Encoding: base64", b"cHJpbnQoKQ==")), KIND),
    "base64 that is none": (form(part(NAMED + b"\r\nContent-Transfer-Encoding: base64", b"=")), KIND),
    "quoted-printable": (form(part(NAMED + b"\r\nContent-Transfer-Encoding: quoted-printable", b"=41")), KIND),
    "a part with a length": (form(part(NAMED + b"\r\nContent-Length: 3")), KIND),
    "a part with a type": (form(part(NAMED + b"\r\nContent-Type: text/x-python")), KIND),
    "a part with an odd type": (form(part(NAMED + b"\r\nContent-Type: \xff/;;")), KIND),
    "a multipart part": (form(part(NAMED + b"\r\nContent-Type: multipart/mixed; boundary=inner")), KIND),
    "NUL in the name": (form(named(b'name="files"; filename="ma\0in.py"')), KIND),
    "NUL in a field": (form(part(NAMED), named(b'name="metadata"') + b"\0"), KIND),
    "NUL in the file": (form(part(NAMED, b"\0\r\n\0")), KIND),
}  # fmt: skip


def large(content, *, before=b"", behind=b""):
    head = NAMED.replace(b"main.py", b"code.zip")
    return form(*([before] if before else []), part(head, content), *([behind] if behind else []))


ZIP = zipped({"main.py": b"print()", "weights.bin": NOISE})


def zip_with(data, at):
    """Make an archive with these bytes somewhere in a stored member."""
    noise = NOISE[:at] + data + NOISE[at + len(data) :]
    return zipped({"main.py": b"print()", "weights.bin": noise})


LARGE_FORMS = {
    "large": large(ZIP),
    "large, a field before": large(ZIP, before=FIELD),
    "large, a field behind": large(ZIP, behind=FIELD),
    "large, a field before with the boundary": large(ZIP, before=FIELD + EDGE),
    "large, no final boundary": large(ZIP)[:-10],
    "large, an epilogue": large(ZIP) + b"bye",
    **{
        f"large, the boundary {name} at {at}": large(zip_with(data, at))
        for at in (5, 512 * 1024 - 130, 512 * 1024 - 100, 1024 * 1024)
        for name, data in {
            "within a line": b"x" + EDGE,
            "within a line, ended": b"x" + EDGE + b"--\r\n",
            "behind a line feed": b"x\n" + EDGE + b"\r\n",
            "with one letter more": b"\r\n" + EDGE + b"x",
            "alone": b"\r\n" + EDGE + b"\r\n",
        }.items()
    },
    **{
        f"large, the boundary across two buffers, {shift}": large(zip_with(b"x" + EDGE, 512 * 1024 - shift))
        for shift in range(90, 180)
    },
}
CASES = {**FORMS, **{name: (body, KIND) for name, body in LARGE_FORMS.items()}}


def send(one, body, kind):
    """Return the status, the content of the answer, and the stored bytes."""
    before = {*left_files()}
    answer = one.client.generic("POST", "/api/submissions", body, content_type=kind)
    content = {**answer.json(), "submission_id": "", "created_at": ""}
    stored = None
    if answer.status_code == 201:
        row = Submission.objects.get(pk=answer.json()["submission_id"])
        stored = storages["submissions"].open(row.object_name).read()
        row.delete()
    else:
        assert {*left_files()} == before
    return answer.status_code, content, stored


@pytest.mark.parametrize("case", CASES)
def test_both_parsers_read_a_form_alike(api, site, case):
    ours, theirs = (send(one, *CASES[case]) for one in (api, site))
    assert ours == theirs
    assert ours[0] in (201, 400, 411, 415)


def test_a_file_in_another_field_is_refused_by_its_name(site):
    status, content, _ = send(site, *FORMS["a field as a file"])
    assert (status, content["message"]) == (400, "metadata: takes no file.")


def test_the_plain_forms_are_the_lanes(api):
    for name in ("plain", "boundary in quotes", "large", "large, a field behind"):
        answered = api.client.answered
        assert send(api, *CASES[name])[0] == 201
        assert api.client.answered == answered + 1, name
