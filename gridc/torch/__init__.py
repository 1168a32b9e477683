"""Grids inside PyTorch: ``GridModule``, and weights that go to and come from PyTorch's own modules.

``torch`` here is always PyTorch itself: imports are absolute."""

from importlib.util import find_spec

if find_spec("torch") is None:
    raise ImportError("gridc.torch needs PyTorch, which is not installed; pip install 'gridc[torch]'")

from gridc.torch.module import GridModule
from gridc.torch.weights import from_torch, load_torch, to_torch

__all__ = ["GridModule", "from_torch", "load_torch", "to_torch"]
