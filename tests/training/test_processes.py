"""Two processes with half of the batch each do what one process with the whole batch does."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

torch.set_num_threads(1)

WORKER = """
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from tgqformer.connectors import ConnectorWidths
from tgqformer.model.batch import ItemBatch
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.training.embedder import train_embedder
from tgqformer.training.sampling import PairSampler
from tgqformer.training.settings import TrainingSettings

torch.set_num_threads(1)
folder, together = Path(sys.argv[1]), int(sys.argv[2])
ITEMS = 24
rng = np.random.default_rng(0)


class Features:
    visual = torch.from_numpy(rng.normal(size=(ITEMS, 4, 6))).half()

    def batch(self, positions):
        none, count = torch.zeros(len(positions), 0, 1), len(positions)
        text = torch.zeros(count, 1, 3), torch.ones(count, 1, dtype=torch.bool), torch.zeros(count, 3)
        return ItemBatch(self.visual[positions], torch.zeros(count, 5), torch.ones(count, dtype=torch.bool), *text,
                         none, none[..., 0].bool())

    def empty(self):
        return self.batch(np.array([0]))


class Joined(PairSampler):
    '''One process draws what `together` processes would draw.'''

    def batch_at(self, step):
        drawn = [super(Joined, self).batch_at(step * together + rank) for rank in range(together)]
        return tuple(np.concatenate(side) for side in zip(*drawn))


pairs = np.array([(i, j) for i in range(ITEMS) for j in range(i + 1, ITEMS) if i // 4 == j // 4]).T
sampler = Joined(*pairs, np.arange(ITEMS) // 8, items=ITEMS, batch=8, group=4, seed=0)
torch.manual_seed(0)
model = ItemEmbedder("mlp", {"dim": 8}, ConnectorWidths(6, 5, 3, (2, 2)), None)
settings = TrainingSettings(steps=4, batch=8, visual_steps=2, visual_batch=8, group=4, warmup=1, lr=1e-2,
                            validate_every=2, checkpoint_every=2, precision="float32")
train_embedder(model, Features(), sampler, settings, folder, shown=False,
      validate=lambda model: (0.5 - float(model.training), 0.0))
rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
save_file(dict(model.state_dict()), folder / f"weights-{rank}.safetensors")
"""


SHARDED = """
import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.distributed.tensor import DTensor

from tgqformer.model.language import LoRA, make_language
from tgqformer.training.sharded import shard

torch.manual_seed(0)
language = make_language(f"hf:{sys.argv[1]}", lora=LoRA(2))
texts = language.encode(["a red thing", "a thing"])
visual = torch.randn(2, 3, language.width), torch.ones(2, 3, dtype=torch.bool)


def step():
    language.zero_grad()
    out = language(*visual, texts.tokens, texts.mask)
    out.square().sum().backward()
    return out.detach(), [weight.grad.clone() for weight in language.parameters() if weight.requires_grad]


with torch.no_grad():
    for name, weight in language.named_parameters():
        if "lora_B" in name:
            weight.normal_()
before, gradients = step()
shard(language, Accelerator())
after, others = step()
assert torch.equal(after, before) and gradients and all(map(torch.equal, gradients, others))
with torch.inference_mode(), language.merged():
    assert torch.equal(language(*visual, texts.tokens, texts.mask), before)
parts = [weight for weight in language.body.parameters() if isinstance(weight, DTensor)]
held, whole = sum(part.to_local().numel() for part in parts), sum(part.numel() for part in parts)
assert 0 < held <= 0.6 * whole, (held, whole)
assert not any(part.requires_grad for part in parts)
torch.distributed.destroy_process_group()
"""


def run(script: Path, folder: Path, *, world: int, together: int) -> None:
    """Run the worker in `world` processes, as `accelerate launch --cpu` or `torchrun` would start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = []
    for rank in range(world):
        own = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
        if world > 1:
            own |= {"WORLD_SIZE": str(world), "RANK": str(rank), "LOCAL_RANK": str(rank),
                    "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
        command = [sys.executable, str(script), str(folder), str(together)]
        running.append(subprocess.Popen(command, env={**os.environ, **own}, stderr=subprocess.PIPE, text=True))
    for process in running:
        _, errors = process.communicate(timeout=500)
        assert process.returncode == 0, errors


def test_two_processes_train_as_one_with_both_batches(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    run(script, tmp_path / "two", world=2, together=1)
    run(script, tmp_path / "one", world=1, together=2)
    one = load_file(tmp_path / "one" / "weights-0.safetensors")
    for rank in range(2):
        two = load_file(tmp_path / "two" / f"weights-{rank}.safetensors")
        assert all(torch.allclose(two[name], value, atol=1e-6) for name, value in one.items())
    logs = [[json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
            for name in ("one", "two")]  # fmt: skip
    assert [len(log) for log in logs] == [4, 4]  # the main process writes, and it alone
    for alone, shared in zip(*logs, strict=True):
        assert {name: pytest.approx(value, rel=1e-4) for name, value in alone.items()} == shared


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert", "qwen"])
def test_each_process_holds_a_part_of_the_frozen_weights(
    kind: str, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    script = tmp_path / "worker.py"
    script.write_text(SHARDED)
    run(script, tiny_model(kind), world=2, together=1)
