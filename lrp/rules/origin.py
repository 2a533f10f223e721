"""What came out of an activation function or a gate, told by where a tensor came from.

CP-LRP sends a product's whole relevance to the factor that did not, and the graph finds MLP neurons by it. What slices, chunks,
casts, reshapes, shifts or scales such a tensor leaves it one; a map by weights does not. An activation's origin is its autograd
history; a gate has none, being a constant, and hands a mark on.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

_MARK = "_lrp_gate"

#: Autograd nodes (their names without "Backward0") that leave what they are given what it was.
_PASSES = frozenset(
    {
        *("View", "UnsafeView", "ReshapeAlias", "Permute", "T", "Transpose", "Squeeze", "Unsqueeze", "Expand", "AsStrided"),
        *("Slice", "Select", "Split", "SplitWithSizes", "Unbind", "Narrow", "Index", "IndexSelect", "Gather", "Unfold"),
        *("Cat", "Stack", "Repeat", "Roll", "Flip", "ConstantPadNd", "CopySlices", "Clone", "ToCopy", "Alias"),
        *("Add", "Sub", "Rsub", "Mul", "Div", "Neg", "MaskedFill", "Where", "Tril", "Triu", "Diagonal", "ScaleGradient"),
    }
)
#: How many nodes are looked at before the answer is no.
_MOST = 64


def mark(x: Tensor) -> Tensor:
    """x, known as the outcome of an activation function or a gate."""
    node: Any = x.grad_fn
    if node is None:
        setattr(x, _MARK, True)
    else:
        node.metadata[_MARK] = True
    return x


def is_marked(x: object) -> bool:
    """Whether x itself is such an outcome."""
    if not isinstance(x, Tensor):
        return False
    node: Any = x.grad_fn
    return hasattr(x, _MARK) if node is None else _MARK in node.metadata


def is_gate(x: object) -> bool:
    """Whether x is such an outcome, or what was made of some without mixing anything else in."""
    if not isinstance(x, Tensor) or x.grad_fn is None:
        return is_marked(x)
    waiting: list[Any] = [x.grad_fn]
    for _ in range(_MOST):
        if not waiting:
            return True
        node = waiting.pop()
        if _MARK in node.metadata:
            continue
        parents = [parent for parent, _ in node.next_functions if parent is not None]
        if not parents or node.name().split("Backward")[0].rpartition("::")[2] not in _PASSES:
            return False
        waiting += parents
    return False


def handed_on(args: tuple[Any, ...], output: Any) -> Any:
    """What is made of constants: marked where one of them is a gate's outcome."""
    if isinstance(output, Tensor):
        if output.is_floating_point() and any(isinstance(x, Tensor) and hasattr(x, _MARK) for x in _tensors(args)):
            setattr(output, _MARK, True)
    elif isinstance(output, (tuple, list)):
        for part in output:
            handed_on(args, part)
    return output


def _tensors(args: tuple[Any, ...]) -> list[Any]:
    return [x for arg in args for x in (arg if isinstance(arg, (tuple, list)) else (arg,))]
