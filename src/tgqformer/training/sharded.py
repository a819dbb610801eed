"""The frozen weights of a language model, spread over the processes that train together (FSDP)."""

from __future__ import annotations

from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from tgqformer.model.language import HuggingFaceLM, LanguageModel
from tgqformer.model.split import layers_of
from tgqformer.training.loop import Place


def shard(language: LanguageModel | None, place: Place) -> None:
    """Let each of the processes hold a part of every layer's frozen weights; a layer is put together while it runs.

    Adapters stay whole in each process, so DDP, optimiser and checkpoints are as without it. What is computed is the
    same, bit for bit. See Zhao et al., "PyTorch FSDP", VLDB 2023, arXiv 2304.11277, and `fully_shard` of PyTorch.
    """
    if not isinstance(language, HuggingFaceLM):
        return
    mesh = init_device_mesh(place.device.type, (place.num_processes,))
    for layer in layers_of(language.body):
        own = {weight for weight in layer.parameters() if weight.requires_grad}
        fully_shard(layer, mesh=mesh, ignored_params=own, reshard_after_forward=True)


def leave_to_fsdp(objective: nn.Module) -> None:
    """Let DDP leave alone what is spread: it would send whole tensors from the first process to the others."""
    names = [name for name, weight in objective.named_parameters() if isinstance(weight, DTensor)]
    leave = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
    leave(objective, names)  # type: ignore[no-untyped-call]
