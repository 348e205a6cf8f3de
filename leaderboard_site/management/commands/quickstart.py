"""`manage.py quickstart`: what `make run` does once everything is up."""

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from accounts.commands import TaughtCommand
from accounts.models import User
from jobs.models import Job
from leaderboard_site.client import Client, Refused
from leaderboards.hiding import hide_labels, leak_of, place_of_sources
from leaderboards.models import Leaderboard
from leaderboards.one_pass import rewrite
from leaderboards.services import create_leaderboard

SLUG = "textures"
HIDDEN_SLUG = "textures-hidden"
HIDDEN_DESCRIPTION = """\
The same surfaces, **scored by the platform**: the test images have neutral names and no labels. Runs leave predictions in
`predictions/`, and the platform compares them with labels that no run sees. All examples of the repository do so.
"""
EXAMPLES = settings.BASE_DIR / "examples"
DESCRIPTION = """\
Find what is wrong with a surface, having seen only good ones. Three real textures (**brick, grass, gravel**) with
*synthetic defects* (scratches, stains, pasted patches), laid out like MVTec-AD.

The dataset is at `$DATASET_DIR`: `CATEGORY/train/good`, `CATEGORY/test/...`, `CATEGORY/ground_truth/...`. Ranked by
**image AUROC**, the mean over the categories.
"""
METRICS: list[dict[str, Any]] = [
    {"name": "image_auc", "label": "Image AUROC", "minimum": 0.0, "maximum": 1.0},
    {"name": "image_f1", "label": "Image F1", "minimum": 0.0, "maximum": 1.0},
    {"name": "pixel_auc", "label": "Pixel AUROC", "minimum": 0.0, "maximum": 1.0},
    {"name": "pixel_pro", "label": "PRO", "minimum": 0.0, "maximum": 1.0},
]


@contextmanager
def _readable_files() -> Iterator[None]:
    """Let runs under another user read the files made meanwhile; DATASET_ROOT itself keeps other accounts out."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


class Command(TaughtCommand):
    help = (
        "Make an operator, a participant and the demonstration leaderboard with its data, upload a sample submission "
        "over HTTP as the participant would, show its log and its rank. What is there already stays as it is."
    )
    examples = """\
  manage.py quickstart --url http://127.0.0.1:8010
"""

    def add_arguments(self, parser):
        parser.add_argument("--url", default=settings.SITE_URL, help="Where the site answers (%(default)s).")

    def handle(self, **options: Any) -> None:
        with self._step("Demonstration data"):
            self._make_dataset()
        with self._step("People and the leaderboard"):
            passwords = {
                name: self._person(name, is_operator=name == "operator") for name in ("operator", "participant")
            }
            self._make_boards()
        client = Client(options["url"])
        try:
            client.login("participant", passwords["participant"])
            if Job.objects.filter(user__username="participant", leaderboard__slug=SLUG, status="completed").exists():
                self.stdout.write("  The sample submission has run before; it keeps its rank.")
            else:
                self._submit_sample(client)
                self._submit_to_hidden(client)
            self._show(client, passwords)
        except Refused as refusal:
            raise CommandError(f"The site refused: {refusal}") from refusal

    @contextmanager
    def _step(self, title: str) -> Iterator[None]:
        started = time.monotonic()
        self.stdout.write(f"  {title} ... ", ending="")
        self.stdout.flush()
        yield
        self.stdout.write(f"{time.monotonic() - started:.1f} s")

    def _make_dataset(self) -> None:
        target = Path(settings.DATASET_ROOT) / SLUG
        target.parent.mkdir(parents=True, exist_ok=True)
        script = EXAMPLES / "dataset" / "make_texture_dataset.py"
        with _readable_files():
            made = subprocess.run([settings.RUNNER_PYTHON, script, target], capture_output=True, text=True, check=False)
        if made.returncode != 0:
            raise CommandError(f"{script} ended with {made.returncode}:\n{made.stderr[-2000:]}")

    def _make_boards(self) -> None:
        if not Leaderboard.objects.filter(slug=SLUG).exists():
            create_leaderboard(
                slug=SLUG, title="Texture defects", description=DESCRIPTION, dataset=SLUG, metrics=METRICS
            )
        data, labels = Path(settings.DATASET_ROOT) / HIDDEN_SLUG, Path(settings.GROUND_TRUTH_ROOT) / HIDDEN_SLUG
        if not labels.exists():
            shutil.rmtree(data, ignore_errors=True)  # without its labels it is of no use
            place_of_sources(labels).unlink(missing_ok=True)
            hide_labels(Path(settings.DATASET_ROOT) / SLUG, data, labels, leave_out=["dataset.json"])
        elif leak_of(data, labels):  # an earlier version wrote it
            rewrite(data, labels)
        if not Leaderboard.objects.filter(slug=HIDDEN_SLUG).exists():
            create_leaderboard(
                slug=HIDDEN_SLUG, title="Texture defects, hidden labels", description=HIDDEN_DESCRIPTION,
                dataset=HIDDEN_SLUG, scorer="anomaly_detection", ground_truth=HIDDEN_SLUG, metrics=METRICS,
            )  # fmt: skip

    def _person(self, name: str, *, is_operator: bool) -> str:
        """Make the person if missing; the password, which is kept in var/ where only this user can read it."""
        path = settings.VAR_DIR / f"{name}.password"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(12))
        password = path.read_text().strip()
        user, _ = User.objects.get_or_create(
            username=name, defaults={"is_staff": is_operator, "is_superuser": is_operator}
        )
        if not user.check_password(password):
            user.set_password(password)
            user.save(update_fields=["password"])
        return password

    def _submit_sample(self, client: Client) -> None:
        folder = EXAMPLES / "patch_gaussian"
        files = sorted(path for path in folder.iterdir() if path.suffix in (".py", ".yaml"))
        with self._step(f"POST /api/submissions ({', '.join(path.name for path in files)})"):
            submission = client.submit(files, leaderboard=SLUG, metadata='{"example": "patch_gaussian"}')
        with self._step("POST /api/jobs"):
            job = client.json("POST", "/api/jobs", {"submission_id": submission["submission_id"]})
        started = time.monotonic()
        status = client.follow(job["job_id"], show=self._show_log)
        self.stdout.write(f"  The job is {status} after {time.monotonic() - started:.1f} s.")
        if status != "completed":
            told = client.json("GET", f"/api/jobs/{job['job_id']}/status")
            raise CommandError(f"The sample ended as {status}: {told.get('error_code')}: {told.get('error_message')}")

    def _submit_to_hidden(self, client: Client) -> None:
        """The quick baseline, which nobody waits for: it is scored while one reads on."""
        folder = EXAMPLES / "mean_image"
        files = sorted(path for path in folder.iterdir() if path.suffix in (".py", ".yaml"))
        submission = client.submit(files, leaderboard=HIDDEN_SLUG, metadata='{"example": "mean_image"}')
        client.json("POST", "/api/jobs", {"submission_id": submission["submission_id"]})

    def _show_log(self, part: str) -> None:
        for line in part.splitlines():
            self.stdout.write(f"    | {line}")

    def _show(self, client: Client, passwords: dict[str, str]) -> None:
        board = client.json("GET", f"/api/leaderboards/{SLUG}/entries")
        self.stdout.write(f"\n  Leaderboard {SLUG}, by {board['metric']}:")
        for entry in board["entries"][:10]:
            self.stdout.write(f"    {entry['rank']:>3}. {entry['user_id']:<20} {entry['score']:.4f}")
        self.stdout.write(f"\n  Open     {client.url}/leaderboards/{SLUG}/")
        self.stdout.write(f"           {client.url}/leaderboards/{HIDDEN_SLUG}/  scored on labels that no run sees")
        self.stdout.write(f"  Sign in  {client.url}/login/  as participant with password {passwords['participant']}")
        self.stdout.write(f"  Operate  {client.url}/admin/  as operator with password {passwords['operator']}")
        self.stdout.write(f"  MLflow   {settings.MLFLOW_PUBLIC_URL}    API  {client.url}/api/docs")
        torch = "torch" in _importable(settings.RUNNER_PYTHON)
        if not torch:
            self.stdout.write(
                "  For the anomalib examples (torch): make worker-environment, then see docs/examples.md."
            )


def _importable(python: str) -> set[str]:
    """Which of the heavy packages the runner environment has, without importing them."""
    folders = Path(python).parent.parent.glob("lib/python3*/site-packages")
    return {path.name for folder in folders for path in folder.iterdir()}
