"""A pretended accelerator: it computes on the CPU, but is another device, and lets no operation mix the two.

Out: code that forgets to move a tensor fails here as it would on a GPU, without one. What it cannot show is what only
CUDA has: kernels, streams, pinned memory, speed (``tests/gpu``).

A tensor of the device is a wrapper around one of the CPU. Every operation comes by :func:`_run`, which refuses tensors
of both devices side by side where CUDA would, computes on what is wrapped, and wraps what comes out. What is drawn on
the device without a generator comes from one of its own, so it is not what the CPU would draw. The device is
registered with torch for good, so :func:`run` does everything in a process of its own.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

import two_ranks

NAME = "pretended"
ATEN = torch.ops.aten
MOVES = {ATEN.copy_.default, ATEN._to_copy.default}
"""What takes tensors of two devices on purpose."""
INDEXED = {ATEN.index.Tensor, ATEN.index_put.default, ATEN.index_put_.default, ATEN._index_put_impl_.default}
"""What takes indices from the CPU, as on CUDA."""
JOINED = {ATEN.stack.default, ATEN.cat.default}
"""What takes no single number from the CPU either, as on CUDA."""
ANSWERS = {ATEN._local_scalar_dense.default, ATEN.equal.default}
"""What gives the host a number."""
CHANCE = torch.Generator()
"""Of the device; seeded with the CPU's, to other numbers."""


def run(function: Callable[..., None], *arguments: Any) -> None:
    """``function(*arguments)`` where ``pretended:0`` is a device; a failure there fails the test."""
    two_ranks.run(_pretending, function, arguments, world=1)


def _pretending(function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    with pretending():
        function(*arguments)


@contextlib.contextmanager
def pretending() -> Iterator[None]:
    """The device is there, from here on for good; tensors can be made on it inside."""
    _register()
    with _Functions(), _Operations():
        yield


@functools.cache
def _register() -> None:
    _setup_privateuseone_for_python_backend(NAME, _Module())  # type: ignore[no-untyped-call]
    # Matrix products stay in fp32 under autocast.
    torch.library.Library("_", "IMPL").fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    # Generators that are made for the device are the CPU's, and give its numbers.
    torch.Generator = _Generator  # type: ignore[misc]


class _Module:
    """What torch asks the module of a device, ``torch.cuda`` of CUDA."""

    def is_available(self) -> bool:
        return True

    is_initialized = is_available

    def _is_in_bad_fork(self) -> bool:
        return False

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]

    def current_stream(self, *device: object) -> _Module:
        return self

    def stream(self, *streams: object) -> contextlib.nullcontext[None]:
        return contextlib.nullcontext()

    device = stream

    def synchronize(self, *device: object) -> None:
        pass

    def manual_seed_all(self, seed: int) -> None:
        CHANCE.manual_seed(seed ^ 1)

    def get_rng_state(self, *device: object) -> Tensor:
        return CHANCE.get_state()

    def set_rng_state(self, state: Tensor, *device: object) -> None:
        CHANCE.set_state(state)


class _Generator(torch._C.Generator):
    def __new__(cls, device: object = "cpu") -> torch._C.Generator:  # type: ignore[misc]
        del device
        return torch._C.Generator.__new__(torch._C.Generator, "cpu")


class _There(Tensor):
    """A tensor of the pretended device."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls: type[_There], inner: Tensor) -> _There:
        """Around a tensor of the CPU."""
        like = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        made: _There = Tensor._make_wrapper_subclass(cls, inner.size(), device=torch.device(NAME, 0), **like)
        made.inner = inner
        return made

    def tolist(self) -> list[Any]:
        values: list[Any] = self.cpu().tolist()
        return values

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Operations(TorchDispatchMode):
    """Every operation, so that tensors can also be made on the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Functions(TorchFunctionMode):
    """What torch moves to a device by itself, where no operation is seen: lists of numbers."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and _is_there(kwargs.get("device")):
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device)
        if func is Tensor.__getitem__ and isinstance(args[0], _There):
            parts = args[1] if isinstance(args[1], tuple) else (args[1],)
            args = (args[0], tuple(torch.tensor(part) if isinstance(part, list) else part for part in parts))
        return func(*args, **kwargs)


def _is_there(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


def _run(func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    """One operation."""
    tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, _There)]
    target = kwargs.get("device")
    if not there and not _is_there(target):
        return func(*args, **kwargs)
    _refuse_mixed(func, tensors, args)
    known = {id(tensor.inner): tensor for tensor in there}

    def wrapped(value: Any) -> Any:
        if id(value) in known:
            return known[id(value)]
        return _There(value) if isinstance(value, Tensor) else value

    own = {name: value for name, value in kwargs.items() if name != "pin_memory"}
    own |= {"device": "cpu"} if _is_there(target) else {}
    args, own = tree_map(lambda value: value.inner if isinstance(value, _There) else value, (args, own))
    is_drawn = torch.Tag.nondeterministic_seeded in func.tags and own.get("generator") is None
    with _own_chance() if is_drawn else contextlib.nullcontext():
        found = func(*args, **own)
    if func is ATEN.copy_.default:
        return known.get(id(found), found)
    is_left = func is ATEN._to_copy.default and target is not None and not _is_there(target)
    return found if is_left or func in ANSWERS else tree_map(wrapped, found)


@contextlib.contextmanager
def _own_chance() -> Iterator[None]:
    """The CPU's generator stands for the device's within the block, and has not moved after it."""
    before = torch.get_rng_state()
    torch.set_rng_state(CHANCE.get_state())
    try:
        yield
    finally:
        CHANCE.set_state(torch.get_rng_state())
        torch.set_rng_state(before)


def _refuse_mixed(func: Any, tensors: list[Tensor], args: Any) -> None:
    least = 0 if func in JOINED else 1
    plain = [tensor for tensor in tensors if not isinstance(tensor, _There) and not tensor.is_meta]
    here = [tensor for tensor in plain if tensor.ndim >= least]
    is_allowed = func in MOVES or (func in INDEXED and isinstance(args[0], _There))
    if here and len(here) < len(tensors) and not is_allowed:
        shapes = [list(tensor.shape) for tensor in here]
        raise RuntimeError(f"{func}: tensors of {shapes} lie on the CPU, others do not")
