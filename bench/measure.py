"""What every Python side of a benchmark shares: threads, timing and the line that the harness reads."""

import hashlib
import json
import os
import platform
import resource
import sys
import time
from pathlib import Path

import torch
import transformers

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
transformers.logging.set_verbosity_error()


def milliseconds(body, times, warmup):
    """The median of what `body` takes, over `times` runs after `warmup` that do not count."""
    taken = []
    for i in range(warmup + times):
        start = time.perf_counter()
        body()
        if i >= warmup:
            taken.append(1000 * (time.perf_counter() - start))
    return sorted(taken)[times // 2]


def show(metrics, check=None):
    usage = resource.getrusage(resource.RUSAGE_SELF)
    versions = (
        f"torch {torch.__version__} ({torch.backends.cpu.get_cpu_capability()}), transformers {transformers.__version__}, "
        f"Python {platform.python_version()}, {torch.get_num_threads()} threads"
    )
    metrics = {**metrics, "peak memory": usage.ru_maxrss / 1024}
    print(json.dumps({"metrics": metrics, "check": check, "versions": versions, "cpuSeconds": usage.ru_utime + usage.ru_stime}))


def digest(files):
    """Changes with the programs, and what they made is made again."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def main(prepare, run):
    """theirs.py prepare FOLDER | run FOLDER [WORD…]"""
    verb, folder, *words = sys.argv[1:]
    folder = Path(folder)
    if verb == "prepare":
        done, made_by = folder / "done", digest([Path(sys.argv[0]), *sorted(Path(__file__).parent.glob("*.py"))])
        if not done.exists() or done.read_text() != made_by:
            folder.mkdir(parents=True, exist_ok=True)
            torch.manual_seed(1)
            prepare(folder)
            done.write_text(made_by)
    else:
        run(folder, *words)
