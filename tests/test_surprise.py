"""-log p of tokens and pixels in steps of learning: values and gradients are those of torch."""

import pytest
import torch

from conjoin.core import stream
from conjoin.nets import surprise
from conjoin.nets.picture_codes import PictureCodes
from conjoin.nets.surprise import pixel_surprise, token_surprise

CHANNELS, LEVELS, COLOURS = 3, 16, 5


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch):
    monkeypatch.setattr(surprise, "NUMBERS_AT_ONCE", 3 * COLOURS)  # the last not full


def _logits(rows, width, dtype=torch.float32):
    return torch.randn(rows, width, generator=stream(0)).to(dtype).requires_grad_()


def _pixels(rows):
    table = torch.rand(COLOURS, CHANNELS, LEVELS, generator=stream(1), dtype=torch.float64)
    level = torch.randint(LEVELS, (rows, CHANNELS), generator=stream(2))
    known = torch.rand(rows, CHANNELS, generator=stream(3)) < 0.7
    share = torch.randn(COLOURS, generator=stream(4), dtype=torch.float64)
    return share, table.softmax(2).log(), level, known


def _plain(logits, share, table, level, known):
    own = torch.stack([table[:, c, level[:, c]].T for c in range(CHANNELS)], 2)
    own = torch.where(known[:, None], own, 0.0).sum(2)
    weight = (logits.double() + share).log_softmax(1)
    return -(weight + own).logsumexp(1)


def _compared(ours, plain, logits, tolerance):
    slope = torch.rand(len(logits), generator=stream(5))
    (found,) = torch.autograd.grad((ours() * slope).sum(), logits)
    (right,) = torch.autograd.grad((plain() * slope).sum(), logits)
    torch.testing.assert_close(ours().double(), plain().double(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found, right, rtol=tolerance, atol=tolerance)
    assert found.dtype == logits.dtype


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_tokens_are_surprising_as_torch_says(dtype, tolerance):
    logits = _logits(11, 7, dtype)
    token = torch.randint(7, (11,), generator=stream(6))

    def plain():
        return torch.nn.functional.cross_entropy(logits.float(), token, reduction="none")

    _compared(lambda: token_surprise(logits, token), plain, logits, tolerance)


def test_tokens_that_can_not_come_have_no_gradient():
    logits = _logits(11, 7)
    token = torch.randint(5, (11,), generator=stream(6))

    def plain():
        return torch.nn.functional.cross_entropy(logits[:, :5], token, reduction="none")

    _compared(lambda: token_surprise(logits, token, 5), plain, logits, 1e-5)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_pixels_are_surprising_as_their_mixture_says(dtype, tolerance, whole):
    logits = _logits(11, COLOURS, dtype)
    share, table, level, known = _pixels(11)
    known = known | whole
    given = (share, table, level, known)
    ours, plain = (lambda: pixel_surprise(logits, *given)), (lambda: _plain(logits, *given))
    _compared(ours, plain, logits, tolerance)


def test_a_pixel_of_which_nothing_is_known_is_no_surprise():
    share, table, level, known = _pixels(4)
    found = pixel_surprise(_logits(4, COLOURS), share, table, level, known & False)
    assert found.abs().max() < 1e-6


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("sides", [(8, 8), (13, 30)])
def test_the_error_of_codes_is_what_answers_say_of_known_pixels(sides, learns):
    torch.manual_seed(0)
    net = PictureCodes((3, *sides), levels=16, code_levels=(4, 3), colours=COLOURS, size=0.125)
    value = torch.randint(16, (3, 3, *sides), generator=stream(0)).double()
    mask = torch.rand(3, 3, *sides, generator=stream(1)) < 0.8
    net.start(value, torch.ones_like(mask))
    for each in net.decoder.parameters():
        torch.nn.init.normal_(each, std=0.1)
    z = net.vectors(net.codes(value)).requires_grad_()
    right = -net.log_prob(value, z, mask).flatten(1).sum(1) / mask.any(1).flatten(1).sum(1)
    found = net.train(learns).error(value, mask, z)
    torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-5)
    slopes = [torch.autograd.grad(each.sum(), z)[0] for each in (right, found)]
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-5)
