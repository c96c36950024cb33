"""Periodic activations, and the filters around them."""

from __future__ import annotations

import math

import torch

from visiontok.layers.snake import AntiAliased, Snake, SnakeBeta, low_pass


def test_snake_is_the_stated_function() -> None:
    snake = Snake(2)
    snake.alpha.data = torch.tensor([1.0, 2.0]).view(1, 2, 1)
    x = torch.linspace(-2, 2, 9).expand(1, 2, 9)
    expected = torch.stack([x[0, 0] + x[0, 0].sin() ** 2, x[0, 1] + (2 * x[0, 1]).sin() ** 2 / 2])[None]
    torch.testing.assert_close(snake(x), expected)


def test_snake_beta_is_the_stated_function() -> None:
    snake = SnakeBeta(2)
    snake.alpha.data, snake.beta.data = torch.tensor([0.0, math.log(2)]), torch.tensor([math.log(3), 0.0])
    x = torch.linspace(-2, 2, 9).expand(1, 2, 9)
    expected = torch.stack([x[0, 0] + x[0, 0].sin() ** 2 / 3, x[0, 1] + (2 * x[0, 1]).sin() ** 2])[None]
    torch.testing.assert_close(snake(x), expected)


def test_the_filter_passes_what_is_slow_and_stops_what_is_fast() -> None:
    response = torch.fft.rfft(low_pass(12, cutoff=0.25, half_width=0.3), n=256).abs()
    assert abs(float(response[0]) - 1) < 1e-6
    assert (response[:32] > 0.75).all()
    assert (response[-16:] < 0.05).all()


def test_without_an_activation_slow_sound_passes() -> None:
    slow = torch.sin(torch.arange(200) * 0.1).expand(1, 3, 200)
    passed = AntiAliased(torch.nn.Identity())(slow)
    torch.testing.assert_close(passed[..., 8:-8], slow[..., 8:-8], rtol=0, atol=0.02)
    assert passed.shape == slow.shape


def test_overtones_beyond_the_band_do_not_fold_back() -> None:
    """The square of a sine at 0.35 cycles per sample is at 0.7, which without the filters would appear at 0.3."""

    class Square(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.square()

    tone = torch.sin(2 * math.pi * 0.35 * torch.arange(200)).expand(1, 1, 200)
    folded, clean = (torch.fft.rfft(act(tone)[0, 0, 50:150]).abs()[30] for act in (Square(), AntiAliased(Square())))
    assert float(clean) < 0.3 * float(folded)
