"""The LoRA adapters that can be called on a running model: read and verified whole before they are listed.

What would be left out in silence is refused: an adapter either computes exactly what PEFT computes, or it is not here.
"""

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from ecotone.engines.server.errors import Unloadable, unknown
from ecotone.engines.server.folders import check_adapter, json_file
from ecotone.engines.server.stepping.lora import Adapter, LowRank, Products

_MOST = 256
_MOST_RANK = 1024
_TENSOR = re.compile(r"base_model\.model\.(model\.layers\.(\d{1,4})\.(?:self_attn|mlp)\.(\w+))\.lora_([AB])\.weight")
_KEEPS_BASE = (True, False, None, "gaussian", "eva", "orthogonal")  # other beginnings change the base's own weights
_NO_CHANGE = {  # fields of LoraConfig that say nothing about what is computed, or are read here
    *("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
    *("inference_mode", "r", "target_modules", "exclude_modules", "lora_alpha", "lora_dropout", "fan_in_fan_out"),
    *("bias", "use_rslora", "init_lora_weights", "layers_to_transform", "layers_pattern", "rank_pattern"),
    *("alpha_pattern", "megatron_core", "loftq_config", "eva_config", "corda_config", "lora_ga_config"),
    *("qalora_group_size", "ensure_weight_tying"),
}


class Adapters:
    """Adapters by name. Thread-safe; `take` and `give_back` are the stepper's."""

    def __init__(self, products: Products, shapes: Mapping[str, tuple[int, int]], dtype: Any, device: Any) -> None:
        """`shapes` gives `(out, in)` of each module that can be changed."""
        self._products, self._shapes, self._dtype, self._device = products, shapes, dtype, device
        self._lock = threading.Lock()
        self._found: dict[str, tuple[Adapter, Path]] = {}
        self._loading: dict[str, tuple[threading.Lock, int]] = {}
        self.changes = 0  # rises with each removal

    def listed(self) -> list[Adapter]:
        with self._lock:
            return [adapter for adapter, _ in self._found.values()]

    def __contains__(self, name: object) -> bool:
        return name in self._found

    def add(self, name: str, folder: Path) -> Adapter:
        """Read an adapter; it can be called when this returns. Once more for the same name and folder changes nothing.

        Raises:
            Unloadable: naming what is wrong with its files, or what of it cannot be computed here.
        """
        with self._alone(name):
            with self._lock:
                there = self._found.get(name)
                if there is None and len(self._found) >= _MOST:
                    raise Unloadable(f"{_MOST} adapters are loaded already; remove one first.")
            if there is not None:
                if there[1] != folder:
                    raise Unloadable(f"{name} is loaded already, from another folder; remove it first.")
                return there[0]
            adapter = self._read(name, folder)
            with self._lock:
                self._found[name] = (adapter, folder)
            return adapter

    def remove(self, name: str) -> Adapter | None:
        """Take an adapter away for new rows; those that have it keep it to their end. None when it is not there."""
        with self._lock:
            found = self._found.pop(name, None)
            if found is None:
                return None
            found[0].removed = True
            self.changes += 1
        return found[0]

    def take(self, name: str) -> Adapter:
        """One more row with this adapter.

        Raises:
            RequestError: 404, it is not there.
        """
        with self._lock:
            found = self._found.get(name)
            if found is None:
                raise unknown(name)
            found[0].running += 1
            return found[0]

    def give_back(self, adapter: Adapter) -> None:
        with self._lock:
            adapter.running -= 1
            self.changes += adapter.removed

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """One at a time for each name; others are not held up."""
        with self._lock:
            lock, users = self._loading.get(name, (threading.Lock(), 0))
            self._loading[name] = (lock, users + 1)
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, users = self._loading.pop(name)
                if users > 1:
                    self._loading[name] = (lock, users - 1)

    def _read(self, name: str, folder: Path) -> Adapter:
        if not (folder / "adapter_config.json").is_file():
            raise Unloadable("there is no adapter_config.json; upload the whole folder that save_pretrained wrote.")
        check_adapter(folder)
        config = json_file(folder / "adapter_config.json")
        _check(config)
        found = self._paired(_tensors(folder))
        self._check_targets(config, set(found))
        weights = {}
        for (layer, module), (down, up, path) in found.items():
            scaling = _scaling(config, path, len(down))
            up = (up.float() * scaling).to(self._dtype)
            weights[layer, module] = LowRank(down.to(self._device, self._dtype).contiguous(), up.to(self._device))
        return Adapter(name, max(len(change.down) for change in weights.values()), weights)

    def _paired(self, tensors: Mapping[str, Any]) -> dict[tuple[int, str], tuple[Any, Any, str]]:
        """By layer and module: down, up, and the module's path in the model."""
        halves: dict[tuple[int, str], dict[str, Any]] = {}
        for key, tensor in tensors.items():
            match = _TENSOR.fullmatch(key)
            if match is None or match[3] not in self._shapes or int(match[2]) >= self._products.layers:
                raise Unloadable(
                    f"it has {key[:200]!r}, which this model has no place for; adapters over {', '.join(self._shapes)} "
                    f"of {self._products.layers} layers are served on a running base."
                )
            halves.setdefault((int(match[2]), match[3]), {"path": match[1]})[match[4]] = tensor
        if not halves:
            raise Unloadable("its weights hold no tensor.")
        return {place: self._pair(place, found) for place, found in halves.items()}

    def _pair(self, place: tuple[int, str], found: Mapping[str, Any]) -> tuple[Any, Any, str]:
        path = found["path"]
        if "A" not in found or "B" not in found:
            raise Unloadable(f"{path} has only one of lora_A and lora_B; upload the file whole.")
        down, up = found["A"], found["B"]
        out, into = self._shapes[place[1]]
        rank = down.shape[0] if down.dim() else 0
        if tuple(down.shape) != (rank, into) or tuple(up.shape) != (out, rank) or not 0 < rank <= _MOST_RANK:
            raise Unloadable(
                f"{path} has lora_A {list(down.shape)} and lora_B {list(up.shape)}; this base wants [rank, {into}] and "
                f"[{out}, rank] with a rank of at most {_MOST_RANK}. Is it an adapter of this model?"
            )
        if not (down.isfinite().all() and up.isfinite().all()):
            raise Unloadable(f"{path} has weights that are no numbers.")
        return down, up, path

    def _check_targets(self, config: Mapping[str, Any], found: set[tuple[int, str]]) -> None:
        """A file that was saved half has fewer modules than its configuration names; PEFT takes the rest as zero."""
        targets = config.get("target_modules")
        if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
            return
        names = {target.rsplit(".", 1)[-1] for target in targets}
        for _, module in found:
            if module not in names:
                raise Unloadable(f"it has weights for {module}, which its target_modules do not name.")
        whole = all(config.get(x) in (None, []) for x in ("layers_to_transform", "exclude_modules"))
        if whole and all(target in self._shapes for target in targets):
            lacking = [(i, m) for i in range(self._products.layers) for m in targets if (i, m) not in found]
            if lacking:
                raise Unloadable(f"it lacks the weights of {lacking[0][1]} in layer {lacking[0][0]}; upload it whole.")


def _tensors(folder: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    found: dict[str, Any] = {}
    for path in sorted(folder.glob("adapter_model*.safetensors")):
        try:
            found |= load_file(path)
        except (SafetensorError, OSError) as error:
            raise Unloadable(f"{path.name} cannot be read: {str(error)[:300]}") from None
    return found


def _check(config: Mapping[str, Any]) -> None:
    for name, value in config.items():
        if value and name not in _NO_CHANGE:
            _refuse(name, value)
    if config.get("bias", "none") != "none":
        _refuse("bias", config["bias"])
    if config.get("init_lora_weights", True) not in _KEEPS_BASE:
        _refuse("init_lora_weights", config["init_lora_weights"])
    for name in ("rank_pattern", "alpha_pattern"):
        patterns = config.get(name) or {}
        if not isinstance(patterns, dict) or len(patterns) > 10_000 or not all(map(_is_harmless, patterns)):
            _refuse(name, patterns)


def _refuse(name: str, value: Any) -> NoReturn:
    raise Unloadable(
        f"adapter_config.json has {name}={str(value)[:100]!r}, which is not computed on a running base; merge the "
        "adapter into its base (merge_and_unload) and serve that, or train it without."
    )


def _is_harmless(pattern: str) -> bool:
    """Whether a regular expression is one that cannot run for ages: nothing repeated but `.*`, and that seldom."""
    return len(pattern) <= 200 and not re.search(r"[+{?]|[^.]\*", pattern) and pattern.count("*") <= 3


def _scaling(config: Mapping[str, Any], path: str, rank: int) -> float:
    """alpha / rank, or alpha / sqrt(rank) with rank-stabilised LoRA; patterns as PEFT matches them."""
    wanted = _by_pattern(config.get("rank_pattern"), path, config.get("r", 8))
    alpha = _by_pattern(config.get("alpha_pattern"), path, config.get("lora_alpha", 8))
    if wanted != rank:
        raise Unloadable(f"{path} has rank {rank}, where adapter_config.json says {wanted!r}.")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not abs(alpha) < 1e6:
        raise Unloadable(f"adapter_config.json has lora_alpha={str(alpha)[:100]!r}; a number is expected.")
    return float(alpha / (rank**0.5 if config.get("use_rslora") else rank))


def _by_pattern(patterns: Mapping[str, Any] | None, path: str, otherwise: Any) -> Any:
    for pattern, value in (patterns or {}).items():
        try:
            if re.match(rf"(.*\.)?({pattern})$", path):
                return value
        except re.error as error:
            raise Unloadable(f"adapter_config.json has the pattern {pattern!r}, which is none: {error}.") from None
    return otherwise
