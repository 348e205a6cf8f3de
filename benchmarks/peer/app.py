"""The reference peer: the original FastAPI + Redis leaderboard design, as a yardstick.

No database: Redis is the queue and the store of jobs, the disk holds the
submissions, bearer tokens come from a map made at start.  It is written to be
a *strong* peer (asyncio, uvloop, hiredis, blocking file work in the thread
pool), so that a ratio against it flatters nobody.

Environment: REF_REDIS_URL, REF_DATA, REF_RATE_LIMIT (jobs per user and hour,
the limit is counted also when it is set far too high to be hit).
"""

from __future__ import annotations

import json
import os
import re
import secrets
import tempfile
import time
import uuid
from pathlib import Path

import redis.asyncio as redis
from fastapi import Depends, FastAPI, File, HTTPException, Request, UploadFile, status
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

REDIS_URL = os.environ.get("REF_REDIS_URL", "redis://127.0.0.1:6379/0")
DATA = Path(os.environ.get("REF_DATA", Path(tempfile.gettempdir()) / "fastapi_reference"))
RATE_LIMIT = int(os.environ.get("REF_RATE_LIMIT", "1000000000"))
RATE_WINDOW = 3600
JOB_TTL = 90 * 24 * 3600
MAX_BYTES = 100 * 1024 * 1024
CHUNK = 1024 * 1024
EXTENSIONS = {".zip", ".tar", ".gz", ".pt", ".pth", ".ckpt", ".onnx", ".py", ".csv", ".json", ".yaml", ".txt"}
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\Z")

# A login map and a token map; user0..user99 log in with the password "pw".
USERS = {f"user{i}": "pw" for i in range(100)}
TOKENS = {f"token-{i:04d}": f"user{i}" for i in range(100)}
TOKEN_OF = {user: token for token, user in TOKENS.items()}

app = FastAPI(title="reference peer", docs_url=None, redoc_url=None)
store = redis.from_url(REDIS_URL, decode_responses=True, max_connections=256)


class Login(BaseModel):
    username: str
    password: str


class NewJob(BaseModel):
    submission_id: str
    model: str = "padim"
    category: str = "bottle"
    params: dict = {}


async def current_user(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    user = TOKENS.get(token) if scheme.lower() == "bearer" else None
    if user is None:
        raise HTTPException(status.HTTP_401_UNAUTHORIZED, "invalid token")
    return user


def checked_name(name: str | None) -> str:
    if not name or not SAFE_NAME.match(name) or ".." in name:
        raise HTTPException(400, "bad file name")
    if Path(name).suffix.lower() not in EXTENSIONS:
        raise HTTPException(400, f"extension not allowed: {name}")
    return name


def inside(root: Path, name: str) -> Path:
    target = (root / name).resolve()
    if not target.is_relative_to(root.resolve()):
        raise HTTPException(400, "path traversal")
    return target


def save(source, target: Path, budget: int) -> int:
    done = 0
    with open(target, "wb") as out:
        while block := source.read(CHUNK):
            done += len(block)
            if done > budget:
                raise HTTPException(413, "submission larger than 100 MB")
            out.write(block)
    return done


def store_files(root: Path, files: list[UploadFile], user: str, submission_id: str) -> list[dict]:
    root.mkdir(parents=True)
    listed, total = [], 0
    for upload in files:
        name = checked_name(upload.filename)
        size = save(upload.file, inside(root, name), MAX_BYTES - total)
        total += size
        listed.append({"name": name, "size": size})
    meta = {"submission_id": submission_id, "user": user, "files": listed, "created_at": time.time()}
    (root / "metadata.json").write_text(json.dumps(meta))
    return listed


@app.post("/auth/login")
async def login(body: Login):
    known = USERS.get(body.username)
    if known is None or not secrets.compare_digest(known, body.password):
        raise HTTPException(401, "bad credentials")
    return {"access_token": TOKEN_OF[body.username], "token_type": "bearer"}


@app.post("/submissions", status_code=201)
async def submit(files: list[UploadFile] = File(...), user: str = Depends(current_user)):
    submission_id = uuid.uuid4().hex
    listed = await run_in_threadpool(store_files, DATA / submission_id, files, user, submission_id)
    return {"submission_id": submission_id, "files": listed}


@app.post("/jobs", status_code=201)
async def enqueue(body: NewJob, user: str = Depends(current_user)):
    if not re.fullmatch(r"[0-9a-f]{32}", body.submission_id) or not (DATA / body.submission_id).is_dir():
        raise HTTPException(404, "no such submission")
    key = f"rate:{user}:{int(time.time()) // RATE_WINDOW}"
    used = await store.incr(key)
    if used == 1:
        await store.expire(key, RATE_WINDOW)
    if used > RATE_LIMIT:
        raise HTTPException(429, "rate limit exceeded")
    job_id = uuid.uuid4().hex
    fields = {
        "job_id": job_id,
        "user": user,
        "submission_id": body.submission_id,
        "model": body.model,
        "category": body.category,
        "params": json.dumps(body.params),
        "status": "queued",
        "created_at": str(time.time()),
    }
    async with store.pipeline(transaction=True) as pipe:
        pipe.hset(f"job:{job_id}", mapping=fields)
        pipe.expire(f"job:{job_id}", JOB_TTL)
        pipe.lpush("queue:jobs", job_id)
        await pipe.execute()
    return {"job_id": job_id, "status": "queued"}


async def job_of(job_id: str, user: str) -> dict:
    job = await store.hgetall(f"job:{job_id}")
    if not job or job["user"] != user:
        raise HTTPException(404, "no such job")
    return job


@app.get("/jobs/{job_id}/status")
async def job_status(job_id: str, user: str = Depends(current_user)):
    job = await job_of(job_id, user)
    return {k: job.get(k) for k in ("job_id", "status", "created_at", "started_at", "finished_at", "error")}


@app.get("/jobs/{job_id}/logs")
async def job_logs(job_id: str, user: str = Depends(current_user)):
    await job_of(job_id, user)
    return {"job_id": job_id, "logs": await store.lrange(f"logs:{job_id}", 0, -1)}


@app.get("/jobs/{job_id}/results")
async def job_results(job_id: str, user: str = Depends(current_user)):
    job = await job_of(job_id, user)
    if job["status"] != "completed":
        raise HTTPException(409, f"job is {job['status']}")
    return {"job_id": job_id, "results": json.loads(job.get("results", "{}"))}
