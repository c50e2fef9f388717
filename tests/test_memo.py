"""What is worked out from tensors is kept until one of them changes."""

import copy
import pickle

import torch

from conjoin.util.memo import TensorMemo


def counted(memo, tensors, more=None):
    """The sum of all cells, and how often it was worked out."""
    made = []

    def make():
        made.append(1)
        return float(sum(each.sum() for each in tensors))

    return memo.of(tensors, make, more), len(made)


def test_the_same_tensors_are_worked_out_once():
    memo = TensorMemo()
    tensors = [torch.ones(3), torch.ones(2)]
    assert [counted(memo, tensors) for _ in range(3)] == [(5.0, 1), (5.0, 0), (5.0, 0)]


def test_what_was_written_to_is_worked_out_again():
    memo = TensorMemo()
    tensors = [torch.ones(3), torch.ones(2)]
    counted(memo, tensors)
    tensors[1][0] = 4.0
    assert counted(memo, tensors) == (8.0, 1)
    tensors[0].copy_(torch.zeros(3))
    assert counted(memo, tensors) == (5.0, 1)


def test_equal_tensors_are_others():
    memo = TensorMemo()
    first = [torch.ones(3)]
    counted(memo, first)
    assert counted(memo, [torch.ones(3)]) == (3.0, 1)
    assert counted(memo, first) == (3.0, 1)
    assert counted(memo, [*first, *first]) == (6.0, 1)


def test_what_else_the_value_depends_on_counts():
    memo = TensorMemo()
    tensors = [torch.ones(3)]
    assert [counted(memo, tensors, more)[1] for more in ("a", "a", "b", "a")] == [1, 0, 1, 1]


def test_tensors_without_versions_are_never_kept():
    with torch.inference_mode():
        tensors = [torch.ones(3)]
    memo = TensorMemo()
    assert [counted(memo, tensors) for _ in range(2)] == [(3.0, 1), (3.0, 1)]


def test_copies_are_empty():
    memo = TensorMemo()
    tensors = [torch.ones(3)]
    counted(memo, tensors)
    for other in (copy.deepcopy(memo), pickle.loads(pickle.dumps(memo))):
        assert counted(other, tensors) == (3.0, 1)


def test_other_numbers_in_the_same_tensor_are_seen():
    memo = TensorMemo()
    tensors = [torch.ones(3)]
    counted(memo, tensors)
    tensors[0].data = torch.full((3,), 2.0)
    assert counted(memo, tensors) == (6.0, 1)
    tensors[0].data = tensors[0].data.double()
    assert counted(memo, tensors) == (6.0, 1)
    assert counted(memo, tensors) == (6.0, 0)
    tensors[0].data = tensors[0].data[:2]  # at the same address
    assert counted(memo, tensors) == (4.0, 1)
