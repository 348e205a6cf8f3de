"""The line that says why a program failed, out of what programs print when they fail."""

import re
import subprocess
import sys
import time

import pytest

from jobs.execution.failure_reason import LastWords, last_words
from jobs.execution.logfile import TAIL_BYTES

PLAIN = """\
Epoch 0
Traceback (most recent call last):
  File "/sandbox/code/main.py", line 3, in <module>
    main()
    ~~~~^^
  File "/sandbox/code/main.py", line 2, in main
    raise ValueError("num_workers must be 0")
ValueError: num_workers must be 0
"""
CHAINED = """\
Traceback (most recent call last):
  File "main.py", line 2, in <module>
    {}["a"]
KeyError: 'a'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "main.py", line 4, in <module>
    raise RuntimeError("no weights") from None
RuntimeError: no weights
"""
MULTI_LINE = """\
Traceback (most recent call last):
  File "main.py", line 9, in <module>
    model.load_state_dict(state)
RuntimeError: Error(s) in loading state_dict for Net:
\tMissing key(s) in state_dict: "fc.weight".
\tsize mismatch for fc.bias
"""
MESSAGE_BELOW = """\
Traceback (most recent call last):
  File "main.py", line 1, in <module>
    import cv2
ImportError:

libGL.so.1: cannot open shared object file
"""
DATA_LOADER = """\
Traceback (most recent call last):
  File "main.py", line 9, in <module>
    for batch in loader:
ValueError: Caught ValueError in DataLoader worker process 0.
Original Traceback (most recent call last):
  File "worker.py", line 351, in _worker_loop
    data = fetcher.fetch(index)
ValueError: image 7 is empty

"""
RANKS = """\
[rank0]: Traceback (most recent call last):
[rank0]:   File "train.py", line 3, in <module>
[rank0]:     raise ValueError("boom")
[rank1]: Traceback (most recent call last):
[rank0]: ValueError: boom
E1201 03:00:00.000000 123 torch/distributed/elastic/multiprocessing/api.py:869] failed (exitcode: 1) local_rank: 0
Traceback (most recent call last):
  File "/usr/bin/torchrun", line 8, in <module>
    sys.exit(main())
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
train.py FAILED
------------------------------------------------------------
"""
SPAWN = """\
Traceback (most recent call last):
  File "main.py", line 9, in <module>
    mp.spawn(work, nprocs=2)
torch.multiprocessing.spawn.ProcessRaisedException:

-- Process 1 terminated with the following error:
Traceback (most recent call last):
  File "spawn.py", line 90, in _wrap
    fn(i, *args)
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.
"""
RICH = """\
╭───────────────────── Traceback (most recent call last) ──────────────────────╮
│ /sandbox/code/main.py:5 in <module>                                          │
│                                                                              │
│ ❱ 5 raise ValueError("bad fold")                                             │
╰──────────────────────────────────────────────────────────────────────────────╯
ValueError: bad fold
"""
GROUP = """\
  + Exception Group Traceback (most recent call last):
  |   File "main.py", line 1, in <module>
  |     raise ExceptionGroup("many", [ValueError(1)])
  | ExceptionGroup: many (1 sub-exception)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "main.py", line 1, in f
    | ValueError: the inner one
    +------------------------------------
"""
SHUTDOWN = """\
Exception ignored in: <function _MultiProcessingDataLoaderIter.__del__ at 0x7f>
Traceback (most recent call last):
  File "dataloader.py", line 1, in __del__
AttributeError: 'NoneType' object has no attribute 'x'
"""
THREAD = """\
Exception in thread Thread-4 (_pin_memory_loop):
Traceback (most recent call last):
  File "threading.py", line 1, in _bootstrap_inner
EOFError

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "threading.py", line 9, in run
ConnectionResetError: [Errno 104] Connection reset by peer
"""
SYNTAX = """\
  File "/sandbox/code/main.py", line 3
    def f(:
          ^
SyntaxError: invalid syntax
"""
WANDB = "wandb: Synced 5 W&B file(s)\nwandb: Find logs at: ./wandb/run\n"
BAR = "Epoch 0:  10%|#         | 1/10 [00:01<00:09]"
USAGE = "usage: main.py [-h]\nmain.py: error: unrecognized arguments: --output\n"
NUM_WORKERS = "ValueError: num_workers must be 0"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PLAIN, NUM_WORKERS),
        (CHAINED, "RuntimeError: no weights"),
        (MULTI_LINE, "RuntimeError: Error(s) in loading state_dict for Net: Missing key(s) in state_dict: \"fc.weight\"."),
        (MESSAGE_BELOW, "ImportError: libGL.so.1: cannot open shared object file"),
        (DATA_LOADER, "ValueError: image 7 is empty"),
        (RANKS, "ValueError: boom"),
        (SPAWN, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."),
        (RICH, "ValueError: bad fold"),
        (GROUP, "ValueError: the inner one"),
        (SYNTAX, "SyntaxError: invalid syntax"),
        (PLAIN + WANDB, NUM_WORKERS),
        (PLAIN + BAR, NUM_WORKERS),
        (PLAIN + SHUTDOWN, NUM_WORKERS),
        (PLAIN + THREAD, NUM_WORKERS),
        (THREAD, "ConnectionResetError: [Errno 104] Connection reset by peer"),
        (BAR + PLAIN.removeprefix("Epoch 0\n"), NUM_WORKERS),
        (f"\x1b[31m{PLAIN}\x1b[0m", NUM_WORKERS),
        (PLAIN + "Set the environment variable HYDRA_FULL_ERROR=1 for a complete stack trace.\n", NUM_WORKERS),
        (PLAIN + "warning: slow\n" * 500, NUM_WORKERS),
    ],
)  # fmt: skip
def test_reason_is_the_exception(error, reason):
    assert last_words(b"started\n", error.encode(), 1) == LastWords(reason)
    # The same on standard output, with something else on standard error.
    assert last_words(error.encode(), WANDB.encode(), 1) == LastWords(reason)


@pytest.mark.parametrize(
    ("output", "error", "code", "expected"),
    [
        ("", USAGE, 2, LastWords("main.py: error: unrecognized arguments: --output")),
        (PLAIN, USAGE, 2, LastWords("main.py: error: unrecognized arguments: --output")),
        ("epoch 3\n", "no data in /x\n\n  \n", 3, LastWords("", "no data in /x")),
        ("epoch 3\n\n", "\n \n", 1, LastWords("", "epoch 3")),
        ("", "", 1, LastWords()),
        ("x\n", b"\xff\xfe\n", 1, LastWords("", "\ufffd\ufffd")),
        # Without an exception that ended it, what was handled long ago is no reason.
        ("", PLAIN + "step\n" * 100 + "Fatal Python error: Segmentation fault\n", 139,
         LastWords("", "Fatal Python error: Segmentation fault")),
        ("", PLAIN + "terminate called without an active exception\n", 134, LastWords(NUM_WORKERS)),
        ("", "Traceback (most recent call last):\n  File", 1, LastWords("", "File")),
    ],
)  # fmt: skip
def test_other_ends(output, error, code, expected):
    error = error if isinstance(error, bytes) else error.encode()
    assert last_words(output.encode(), error, code) == expected


@pytest.mark.parametrize(
    "program",
    [
        "def f(x):\n  return f(x + 1)\nf(0)",
        "import json; json.loads('{')",
        "raise type('Mine', (Exception,), {})('one\\ntwo')",
        "assert 1 == 2",
        "try:\n  1/0\nexcept Exception as e:\n  raise OSError('x') from e",
        "import asyncio\nasync def f(): raise LookupError\nasyncio.run(f())",
    ],
)
def test_reason_of_this_interpreters_own_tracebacks(program):
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    last = [line for line in ended.stderr.decode().splitlines() if re.match(r"[\w.]*(Error|Mine)", line)][-1]
    assert last_words(b"", ended.stderr, ended.returncode) == LastWords(last)


@pytest.mark.parametrize(
    "piece",
    [
        "Traceback (most recent call last):\n",
        "A" * 70_000,
        "a.a" * 3000,
        '  File "',
        "╭ Traceback (most recent call last)\n",
    ],
)
def test_hostile_output_costs_little(piece):
    end = (piece.encode() * 3000)[-TAIL_BYTES:]
    start = time.process_time()
    last_words(end, end, 1)
    assert time.process_time() - start < 1
