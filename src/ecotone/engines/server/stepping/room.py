"""How many answers a deployment computes at once where nobody says: as many as the memory holds at full length.

Keys and values take memory as answers grow (`Places`), so fewer than that hardly ever fill it; more could, when all of
them are long. The context is never divided among answers.
"""

from pathlib import Path
from typing import Any

import torch

from ecotone.engines.server.loading import Loaded

_SHARE = 0.5  # of what is free; the rest is for activations and for growing, which holds a layer twice
_LEAST = 4  # answers seldom fill a long context: fewer would leave most of the machine unused
_LIMIT, _USED = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"


def slots_for(loaded: Loaded, most: int, memory: int | None = None) -> int:
    """Answers at once: at most `most`, at least four.

    Args:
        memory: bytes that all engines of the machine may have; what is free counts where it is less.
    """
    each = answer_bytes(loaded)
    if each is None:
        return most
    device = str(loaded.model.device)
    free = free_bytes(device)
    if memory is not None and device == "cpu":
        free = min(free, max(0, memory - _weights(loaded.model)))
    return max(min(_LEAST, most), min(most, int(free * _SHARE) // each))


def answer_bytes(loaded: Loaded) -> int | None:
    """What one answer of the context's length holds of keys and values; None where the configuration does not say."""
    model = loaded.model
    config = model.config.get_text_config(decoder=True)
    layers = getattr(config, "num_decoder_layers", None) or getattr(config, "num_hidden_layers", None)
    heads = getattr(config, "num_attention_heads", None)
    if not layers or not heads:
        return None
    size = getattr(config, "head_dim", None) or getattr(config, "d_kv", None) or config.hidden_size // heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    texts = 2 if config.is_encoder_decoder else 1  # the prompt has keys and values of its own
    return int(2 * layers * kv_heads * size * model.dtype.itemsize * loaded.context_length * texts)


def free_bytes(device: str) -> int:
    """Memory of a device that nobody has; on a CPU that of the machine, or of the container."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    found = [1 << 62]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]))
        found.append(max(0, int(Path(_LIMIT).read_text()) - int(Path(_USED).read_text())))
    except (OSError, StopIteration, ValueError):  # another system, or no limit
        pass
    return min(found)


def _weights(model: Any) -> int:
    return sum(weight.numel() * weight.element_size() for weight in model.parameters())
