"""Which device sketches are computed on."""

from __future__ import annotations

import torch

from lineage.errors import UsageError

__all__ = ["NoDeviceError", "resolve_device"]


class NoDeviceError(UsageError):
    """The device that was asked for is not there."""


def resolve_device(name: str = "auto") -> torch.device:
    """The torch device behind ``auto``, ``cpu`` or ``cuda`` (``cuda:1`` …).

    ``auto`` is the first CUDA device where there is one, else the CPU.

    Raises
    ------
    NoDeviceError
        If CUDA is asked for and absent, or the name is none of these.

    Examples
    --------
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    kind, _, number = name.partition(":")
    if kind == "cpu" and not number:
        return torch.device("cpu")
    if kind != "cuda" or (number and not number.isdigit()):
        raise NoDeviceError(f"device {name!r} is not known: say auto, cpu or cuda")
    if not torch.cuda.is_available():
        raise NoDeviceError(
            "no CUDA device is to be had here (torch finds none): use --device cpu or auto"
        )
    index = int(number or 0)
    if index >= torch.cuda.device_count():
        raise NoDeviceError(f"there are {torch.cuda.device_count()} CUDA devices, no {name}")
    return torch.device("cuda", index)
