"""A site as it looks after some weeks of use: boards, people, jobs in every status. For screenshots and checks of pages."""

import math
import random
import struct
import zlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.utils import timezone

from accounts.models import User
from accounts.tests.factories import ApiTokenFactory, UserFactory
from jobs.dependencies import CHECKS, record
from jobs.execution.preflight import ATTEMPTS
from jobs.execution.told import Told, kept
from jobs.models import ErrorCode, HourlyEnds, Job, JobProgress
from jobs.reconciler import leads
from jobs.tests.factories import JobAttemptFactory, JobFactory, LogChunkFactory, WorkerFactory
from leaderboards.models import Leaderboard
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory
from submissions.archive import write_archive
from submissions.models import Submission
from submissions.tests.factories import SubmissionFactory

PEOPLE = [
    "hanako", "ada.lovelace", "k-nakamura", "chen-wei", "m.curie", "fatima", "sato-lab", "o.heaviside", "t-suzuki",
    "noether", "turing-fan", "rin",
]  # fmt: skip
METRICS = [
    {"name": "image_auc", "label": "Image AUROC"},
    {"name": "pixel_auc", "label": "Pixel AUROC"},
    {"name": "aupro", "label": "AUPRO"},
    {"name": "seconds", "label": "Seconds", "unit": "s", "direction": "lower"},
]
ABOUT = """Find the defects in **real textures** (brick, grass, gravel) with synthetic defects.

- Train on good pictures alone; the test has both.
- The score is the image AUROC over all three categories.
- No network; the data set lies in `$DATASET_DIR`, read-only.
"""
LOG = "\n".join(
    ["\x1b[1mPatchCore\x1b[0m on brick, grass, gravel", "device: cuda:0, 60 training pictures a category"]
    + [f"epoch {n:2d}  loss {1.4 * math.exp(-n / 9):.4f}  \x1b[32mval auc {0.7 + 0.26 * (1 - math.exp(-n / 7)):.4f}\x1b[0m" for n in range(1, 41)]
    + ["\x1b[33mwarning: coreset kept 2 % of 61440 patches\x1b[0m", "done in 74.2 s"]
) + "\n"  # fmt: skip


MACHINE = {
    "cpus": 64, "load": 9.5, "memory_bytes": 512 * 1024**3,
    "disk": {"path": "/work", "free_bytes": 2100 * 1024**3, "total_bytes": 3800 * 1024**3},
}  # fmt: skip
REPORT = [{"name": name, "what": what, "contained": True, "how": "EPERM"} for name, what in ATTEMPTS.items()]


@dataclass
class Demo:
    user: User
    board: Leaderboard
    completed: Job
    other: Job
    running: Job
    failed: Job
    pending: Job

    def pages(self) -> dict[str, str]:
        """Every page that somebody signed in can see, by a name for its file."""
        return {
            "home": "/",
            "leaderboard": self.board.get_absolute_url(),
            "leaderboard-past": f"{self.board.get_absolute_url()}?as_of={timezone.now() - timedelta(days=6):%Y-%m-%d}",
            "leaderboard-empty": "/leaderboards/screws/",
            "history": f"{self.board.get_absolute_url()}history/",
            "submit": f"/submit/?leaderboard={self.board.slug}",
            "jobs": "/jobs/",
            "submissions": "/submissions/",
            "runs": "/mlflow/",
            "job-completed": self.completed.get_absolute_url(),
            "job-running": self.running.get_absolute_url(),
            "job-failed": self.failed.get_absolute_url(),
            "job-pending": self.pending.get_absolute_url(),
            "job-found": f"{self.completed.get_absolute_url()}?q=epoch",
            "job-picture": f"{self.completed.get_absolute_url()}view/maps/grass.png",
            "job-drawn": f"{self.completed.get_absolute_url()}view/curve.csv",
            "job-files": f"{self.completed.get_absolute_url()}artifacts/",
            "submission": self.completed.submission.get_absolute_url(),
            "submission-files": f"{self.completed.submission.get_absolute_url()}files/",
            "submission-file": f"{self.completed.submission.get_absolute_url()}files/config.yaml",
            "submission-delete": f"{self.completed.submission.get_absolute_url()}delete/",
            "compare": f"/compare/?job={self.completed.pk}&job={self.other.pk}",
            "compare-code": f"/compare/code/?job={self.completed.pk}&job={self.other.pk}",
            "compare-choose": "/compare/",
            "account": "/account/",
            "profile": "/account/profile/",
            "password": "/account/password/",
            "not-found": "/nowhere/",
        }

    PUBLIC = {"login": "/login/", "sign-up": "/sign-up/"}


def picture(seed: int, size: int = 128) -> bytes:
    """A PNG of waves with a hot spot, such as an anomaly map is."""
    rng = random.Random(seed)
    x0, y0 = rng.uniform(30, 100), rng.uniform(30, 100)
    rows = bytearray()
    for y in range(size):
        rows.append(0)
        for x in range(size):
            heat = math.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 350)
            base = 70 + 25 * math.sin(x / 6 + seed) * math.cos(y / 7)
            rows += bytes((min(255, int(base + 190 * heat)), int(base), int(max(0, base + 40 - 90 * heat))))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(rows))) + chunk(b"IEND", b"")
    )


def keep(content: bytes) -> str:
    return storages["artifacts"].save(f"demo/{uuid4()}", ContentFile(content))


def curves(offset: float = 0.0) -> list[dict[str, Any]]:
    steps = range(1, 41)
    return [
        {"name": "train/loss", "points": [[n, round(1.4 * math.exp(-n / 9) + 0.05, 4), n * 1.8] for n in steps]},
        {"name": "val/auc", "points": [[n, round(0.7 + (0.26 - offset) * (1 - math.exp(-n / 7)), 4), n * 1.8] for n in steps]},
    ]  # fmt: skip


def submission(user: User, board: Leaderboard, config: str, days_ago: float) -> Submission:
    """With its files really stored, so that pages that read them have something to read."""
    import io

    made = SubmissionFactory.build(user=user, leaderboard=board)
    code = f"import argparse\n\n# {user.username}\nprint('fit')\n".encode()
    target = io.BytesIO()
    files = {"main.py": code, "config.yaml": config.encode(), "src/model.py": b"class Model:\n    pass\n"}
    manifest = write_archive(target, [(name, io.BytesIO(content)) for name, content in files.items()])
    made.object_name = storages["submissions"].save(f"{made.id}.tar", ContentFile(target.getvalue()))
    made.manifest = [{"path": entry.path, "bytes": entry.bytes} for entry in manifest]
    made.size_bytes = len(target.getvalue())
    made.created_at = timezone.now() - timedelta(days=days_ago)
    made.save(force_insert=True)
    return made


def completed(user: User, board: Leaderboard, score: float, days_ago: float, seed: int, **given: Any) -> Job:
    config = f"model: patchcore\nbackbone: resnet18\ncoreset: {0.01 * (1 + seed % 5):.2f}\nseed: {seed}\n"
    sent = submission(user, board, config, days_ago)
    if seed % 2 == 0:
        sent.name = f"PatchCore, resnet18, coreset {0.01 * (1 + seed % 5):.2f}"
        sent.save(update_fields=["name"])
    metrics = {
        "image_auc": score,
        "pixel_auc": min(0.999, score + 0.012),
        "aupro": score - 0.06,
        "seconds": 40 + 9.3 * seed,
    }
    wall = 42 + 9 * (seed % 7)
    log = keep(LOG.encode())
    return JobFactory(
        user=user, leaderboard=board, submission=sent, status="completed", score=score, metrics=metrics,
        params={"model": "patchcore", "backbone": "resnet18", "coreset": 0.01 * (1 + seed % 5), "seed": seed},
        created_at=sent.created_at, wall_seconds=wall, peak_memory_bytes=(900 + 130 * (seed % 9)) * 1024**2,
        started_at=sent.created_at + timedelta(seconds=4), finished_at=sent.created_at + timedelta(seconds=4 + wall),
        cpu_seconds=1.7 * wall, run_id=uuid4().hex, experiment_id="1", log_name=log, **{"isolation": "bubblewrap", **given},
    )  # fmt: skip


def make_machines() -> None:
    """What operators see: workers, a day of ends, the parts that are up, a reconciler (this process is it)."""
    now = timezone.now()  # heartbeats lie ahead: nobody beats while the pictures are taken
    for number, job in enumerate([*Job.objects.filter(status="running")[:1], None, None]):
        gpus = [
            {
                "index": number,
                "name": "NVIDIA H100",
                "memory_used_bytes": 31 * 1024**3 if job else 0,
                "memory_total_bytes": 80 * 1024**3,
                "utilization": 0.87 if job else 0,
            }
        ]
        worker = WorkerFactory(
            name=f"gpu-1/{number}", hostname="gpu-1", state="running" if job else "idle", gpus=gpus, executor="bubblewrap",
            machine=MACHINE, sandbox_report=REPORT, resource_classes=["small", "medium"], heartbeat_at=now + timedelta(minutes=10),
        )  # fmt: skip
        Job.objects.filter(pk=job.pk if job else None).update(worker=worker)
    hour = now.replace(minute=0, second=0, microsecond=0)
    rng = random.Random(5)
    for back in range(24):
        for status, most in (("completed", 30), ("failed", 6), ("cancelled", 3)):
            HourlyEnds.objects.create(hour=hour - timedelta(hours=back), status=status, count=rng.randrange(most))
    for name in CHECKS:
        record(
            name,
            is_up=True,
            detail={"milliseconds": 2, "version": {"postgresql": "17.5", "redis": "8.1"}.get(name)},
            at=now - timedelta(days=9),
        )
    leads()


def make_demo() -> Demo:
    board = LeaderboardFactory(
        slug="textures", title="Textures: brick, grass, gravel", description=ABOUT, metrics=METRICS
    )
    wood = LeaderboardFactory(slug="wood-ja", title="木目の欠陥検出チャレンジ 2026", metrics=METRICS[:2])
    LeaderboardFactory(slug="screws", title="Screws and bolts", metrics=METRICS[:1])
    user, *others = (UserFactory(username=name) for name in PEOPLE)
    user.first_name, user.email = "山田 花子", "hanako@example.com"
    user.save(update_fields=["first_name", "email"])
    rank(others, board, wood)
    best, other = two_completed(user, board)
    failed, running, pending = others_of_one_submission(user, board)
    JobFactory(user=user, leaderboard=wood, status="cancelled", created_at=timezone.now() - timedelta(days=1))
    ApiTokenFactory(user=user, name="laptop")
    ApiTokenFactory(user=user, name="CI")
    return Demo(user, board, best, other, running, failed, pending)


def rank(people: list[User], board: Leaderboard, wood: Leaderboard) -> None:
    """All of them on the first board, four on the second, one of whom runs something there."""
    rng = random.Random(7)
    for number, user in enumerate(people):
        job = completed(
            user,
            board,
            round(0.971 - 0.019 * number + rng.uniform(-0.004, 0.004), 4),
            0.4 + 1.7 * number,
            number,
            isolation="unsafe-local" if user.username == "rin" else "bubblewrap",
        )
        EntryFactory(leaderboard=board, job=job, score=job.score)
        if number == 0:
            JobFactory(user=user, leaderboard=wood, status="running")
        if number < 4:
            score = 0.9 - 0.03 * number
            EntryFactory(leaderboard=wood, job=completed(user, wood, score, number, number), score=score)


def two_completed(user: User, board: Leaderboard) -> tuple[Job, Job]:
    """The best, which stands on the board and left files, and one to compare it with."""
    other = completed(user, board, 0.9312, 3, 4)
    files = {f"maps/{kind}.png": picture(number) for number, kind in enumerate(["brick", "grass", "gravel"])}
    files["curve.csv"] = b"epoch,loss\n" + b"".join(b"%d,%f\n" % (n, math.exp(-n / 9)) for n in range(1, 40))
    files["model.txt"] = b"weights" * 500
    artifacts = [{"path": path, "bytes": len(data), "sha256": "", "name": keep(data)} for path, data in files.items()]
    best = completed(user, board, 0.9587, 0.1, 2, artifacts=artifacts)
    EntryFactory(leaderboard=board, job=best, score=best.score)
    for job, offset in ((best, 0.0), (other, 0.04)):
        JobProgress.objects.create(
            job=job, attempt=1, fraction=1, message="", curves=curves(offset), fraction_at=timezone.now()
        )
        JobAttemptFactory(
            job=job, worker_name="gpu-1/0", outcome="completed", started_at=job.started_at, ended_at=job.finished_at
        )
    return best, other


def others_of_one_submission(user: User, board: Leaderboard) -> tuple[Job, Job, Job]:
    """One failed, one running, one pending."""
    now = timezone.now()
    sent = submission(user, board, "model: padim\nbackbone: wide_resnet50\n", 0)
    too_much = Told("%(used)s of %(limit)s", used="4 GiB", limit="4 GiB")
    failed = JobFactory(
        user=user, leaderboard=board, submission=sent, status="failed", error_code=ErrorCode.OUT_OF_MEMORY,
        error_message=too_much, error_told=kept(too_much), log_name=keep(LOG[:900].encode()),
        created_at=now - timedelta(hours=5),
    )  # fmt: skip
    running = JobFactory(
        user=user, leaderboard=board, submission=sent, status="running",
        created_at=now - timedelta(seconds=80), started_at=now - timedelta(seconds=70),
    )  # fmt: skip
    LogChunkFactory(job=running, content=LOG[:1400].encode())
    JobProgress.objects.create(
        job=running, attempt=1, fraction=0.45, message="epoch 18 of 40", curves=[{**one, "points": one["points"][:18]} for one in curves()],
        fraction_at=now,
    )  # fmt: skip
    pending = JobFactory(user=user, leaderboard=board, submission=sent)
    return failed, running, pending
