import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
import torch
from measure import main, milliseconds, show

CALLS = 10_000


def nanoseconds(call):
    def body():
        for _ in range(CALLS):
            call()

    return milliseconds(body, times=31, warmup=10) * 1e6 / CALLS


def run(folder):
    a, b = torch.randn(4, 4), torch.randn(4, 4)
    c, d = torch.randn(4, 4, requires_grad=True), torch.randn(4, 4, requires_grad=True)
    metrics = {}
    with torch.no_grad():
        metrics["add"] = nanoseconds(lambda: a + b)
        metrics["view"] = nanoseconds(lambda: a.view(2, 8))
        metrics["matmul"] = nanoseconds(lambda: a @ b)
    metrics["add with grad"] = nanoseconds(lambda: c + d)
    metrics["view with grad"] = nanoseconds(lambda: c.view(2, 8))
    metrics["matmul with grad"] = nanoseconds(lambda: c @ d)
    show(metrics)


main(lambda folder: None, run)
