import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from visiontok.base.memory import peak_bytes


def by_profiler(run):
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        result = run()
    held = highest = 0
    for event in sorted(recorded.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            highest = max(highest, held)
    del result
    return highest


def test_views_share_memory_and_what_is_freed_does_not_count():
    def run():
        first = torch.zeros(1000)
        second = first + 1
        views = second.view(10, 100), second[:3]
        del first
        return views, second * 2

    assert peak_bytes(run) == 8000


def test_a_training_step_takes_what_the_profiler_says():
    model = nn.Sequential(*(layer for _ in range(4) for layer in (nn.Linear(64, 64), nn.GELU())))
    batch = torch.randn(256, 64)

    def step():
        model.zero_grad()
        model(batch).square().mean().backward()

    step()
    assert abs(peak_bytes(step) / by_profiler(step) - 1) < 0.1
