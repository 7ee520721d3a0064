"""The training loop, the same for every task.

One step: draw a batch, collate its micro-batches, add up their gradients (all divided by the targets of the
whole batch), stop if anything is not finite, clip, update, log; now and then validate and keep a checkpoint.
Data order and random numbers are functions of (seed, stage, step): a run that was killed goes on, with the
same number of threads, exactly as if it had not been.
"""

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel

from polylens.batching import chunks
from polylens.data.mix import Mix
from polylens.errors import UserError
from polylens.files import make_writable_folder, write_atomic
from polylens.recipe import Checkpoints, Precision, Stage, Validation
from polylens.training.checkpoint import Checkpoint, CheckpointFolder, State
from polylens.training.log import RunLog, StepBar
from polylens.training.optimizer import (
    build_optimizer,
    clip_gradients,
    load_optimizer_tensors,
    load_scaler_tensors,
    optimizer_tensors,
    scaler_tensors,
    schedule,
    set_learning_rates,
)
from polylens.training.outcome import BEFORE
from polylens.training.stages import Plan, apply_stage, check_patterns, set_modes
from polylens.training.tasks import Task, TrainingBatch

Validate = Callable[[nn.Module, int], dict[str, float]]
TASK = "task|"  # before the names of what a task keeps in a checkpoint


@dataclass
class Trainer:
    """Trains `task.model` through `stages` on `samples`, keeping log, curves and checkpoints in `out`.

    `held_out` samples give the validation loss (also per language), `validate(model, step)` further scores.
    `settings` is whatever else must be the same for a run to be resumed (a recipe). With `resume=False` the
    run in `out` is begun anew. With `precision` "bfloat16" or "float16" the model computes in it wherever autocast
    finds that safe; in float16 the loss is scaled, and a step whose gradients overflow lowers the scale and is not
    taken.
    """

    task: Task
    stages: Sequence[Stage]
    samples: Sequence[Any]
    out: Path
    seed: int = 0
    precision: Precision = "float32"
    held_out: Sequence[Any] = ()
    validation: Validation | None = None
    validate: Validate | None = None
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    settings: dict[str, Any] = field(default_factory=dict)
    resume: bool = True
    device: torch.device | str | None = None
    console: Console = field(default_factory=lambda: Console(quiet=True))

    def run(self) -> dict[str, float]:
        """Train, or go on training, to the end. Returns the results of the best validation and the number of
        steps.

        Afterwards the model holds the best weights of the last stage, and is in evaluation mode.

        Raises `UserError` for what the user can mend: a pattern without parameters, a sample without target,
        a loss or gradient that is not finite, a full disk, a folder with another run.
        """
        self._move_model()
        make_writable_folder(self.out)
        self._folder = self._open_folder()
        checkpoint = self._folder.last() if self.resume else None
        if checkpoint and checkpoint.state.stage == len(self.stages):
            self.console.print(
                f"This run was finished before, after {checkpoint.state.done} steps: its model is written again. "
                "--no-resume trains anew."
            )
        check_patterns(self._model, self.stages)
        state = checkpoint.state if checkpoint else State()
        with RunLog(self.out, state.done) as self._log:
            for index in range(len(self.stages)):
                # At step 0 the checkpoint comes from before this stage gave the model its adapters.
                if checkpoint and index == state.stage and state.step == 0:
                    self._load_weights(checkpoint.weights)
                plan = self._begin_stage(index)
                if index < state.stage:
                    continue
                if checkpoint and index == state.stage and state.step:
                    self._load_weights(checkpoint.weights)
                moments = checkpoint.optimizer if checkpoint and state.step else {}
                with self._attention():
                    state = self._run_stage(plan, state, moments)
                checkpoint = None
            if checkpoint and state.stage == len(self.stages):
                self._load_weights(checkpoint.weights)
        self.task.finish()
        self._model.eval()
        return (state.results or {}) | {"steps": state.done}

    def prepare(self) -> None:
        """Only compute what the first stage keeps on disk, of samples as `run` would, which then finds it there."""
        self._move_model()
        plan = self._begin_stage(0)
        with self._attention():
            self._prepare(plan, Mix.of(self.samples).only(plan.stage.parts))

    def _move_model(self) -> None:
        self._device = torch.device(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._model = self.task.model.to(self._device)
        self._trained: dict[int, nn.Parameter] = {}

    def _prepare(self, plan: Plan, samples: Mix) -> None:
        with self._autocast():
            self.task.prepare(plan, samples, self.held_out)

    def _open_folder(self) -> CheckpointFolder:
        identity = {
            "seed": self.seed,
            "precision": self.precision,
            "stages": [stage.model_dump(mode="json") for stage in self.stages],
            "samples": Mix.of(self.samples).identity(),
            **self.settings,
        }
        identity = json.loads(json.dumps(identity, default=str))
        path, folder = self.out / "run.json", self.out / "checkpoints"
        if not self.resume:
            for old in (folder, self.out / "tensorboard"):
                shutil.rmtree(old, ignore_errors=True)
        checkpoints = CheckpointFolder(folder, self.checkpoints.keep)
        if checkpoints.names() and path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
            if before != identity:
                raise UserError(
                    f"'{self.out}' holds a run with other settings ({_difference(before, identity)}): choose "
                    "another folder with --out, or begin anew with --no-resume."
                )
        write_atomic(path, json.dumps(identity, indent=1, ensure_ascii=False))
        return checkpoints

    def _begin_stage(self, index: int) -> Plan:
        # New adapters draw random numbers: the same ones whether or not the run was resumed.
        torch.manual_seed(_mix(self.seed, index, -1))
        plan = apply_stage(self._model, self.stages[index])
        self._model.to(self._device)
        self._trained |= {id(p): p for p in self._model.parameters() if p.requires_grad}
        return plan

    def _run_stage(self, plan: Plan, state: State, moments: dict[str, torch.Tensor]) -> State:
        stage = plan.stage
        samples = Mix.of(self.samples).only(stage.parts)
        order = samples.order(stage.batch_size, _mix(self.seed, state.stage))
        total = stage.steps or order.steps(stage.epochs or 1)
        self.console.print(plan.table)
        self._prepare(plan, samples)
        if self.validation and self.held_out and not state.done:
            before = self._validate(stage, 0)
            write_atomic(self.out / BEFORE, json.dumps(before, indent=1, ensure_ascii=False))
        optimizer = build_optimizer(self._model, plan)
        load_optimizer_tensors(optimizer, moments)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=self.precision == "float16")
        load_scaler_tensors(self._scaler, moments)

        def collate(step: int) -> list[TrainingBatch]:
            drawn = [(samples[number], epoch) for number, epoch in order.batch(step)]
            if stage.micro_batch:  # Samples of one length together need the least padding.
                drawn.sort(key=lambda pair: self.task.size(pair[0]))
            return [
                self.task.collate([sample for sample, _ in piece], [epoch for _, epoch in piece])
                for piece in chunks(drawn, stage.micro_batch)
            ]

        # The next batch is collated while the model is busy with this one.
        with ThreadPoolExecutor(1) as reader, StepBar(self.console, stage.name, state.step, total) as bar:
            following: Future[list[TrainingBatch]] = reader.submit(collate, state.step)
            while state.step < total and not self._out_of_patience(state):
                start = time.perf_counter()
                batches = following.result()
                if state.step + 1 < total:
                    following = reader.submit(collate, state.step + 1)
                factor = schedule(state.step, total, stage.warmup_steps, stage.schedule)
                rates = set_learning_rates(optimizer, factor)
                torch.manual_seed(_mix(self.seed, state.stage, state.step))
                line = self._step(batches, optimizer, stage.clip, state)
                seconds = time.perf_counter() - start
                state = state.next_step()
                line = {"step": state.done, "stage": stage.name, "stage_step": state.step} | line
                line |= {
                    "epoch": round(state.step * stage.batch_size / len(samples), 4),
                    "learning_rate": rates,
                }
                line |= {
                    "samples_per_second": round(stage.batch_size / seconds, 3),
                    "seconds": round(seconds, 6),
                }
                improved = False
                if self.validation and (state.step % self.validation.every == 0 or state.step == total):
                    following.exception()  # Tokenizers are not shared between threads.
                    results = self._validate(stage, state.done)
                    line["validation"] = results
                    state, improved = self._judge(state, results)
                self._log.write(line)
                bar.update(line)
                if improved or state.step % self.checkpoints.every == 0:
                    self._save(state, optimizer)
        return self._end_stage(stage, state)

    def _step(
        self, batches: Sequence[TrainingBatch], optimizer: torch.optim.Optimizer, clip: float, state: State
    ) -> dict[str, Any]:
        """Forward, backward and update. Raises `UserError` before the update if a number is not finite."""
        num_targets = sum(batch.num_targets for batch in batches)
        optimizer.zero_grad(set_to_none=True)
        losses = []
        for batch in batches:
            with self._autocast():
                loss = self.task.loss(batch.to(self._device), num_targets)
            # Without pictures, nothing trained may stand between a micro-batch and its loss.
            if loss.requires_grad:
                self._scaler.scale(loss).backward()
            losses.append(loss.detach())
        if any(p.grad is not None for group in optimizer.param_groups for p in group["params"]):
            self._scaler.unscale_(optimizer)
        norm = clip_gradients((p for group in optimizer.param_groups for p in group["params"]), clip)
        *parts, gradient_norm = torch.stack([*losses, norm.to(losses[0])]).tolist()
        scale = self._scaler.get_scale()
        overflows = not math.isfinite(gradient_norm) and scale > 1  # without scaling it is 1
        if not math.isfinite(sum(parts)) or (not math.isfinite(gradient_norm) and not overflows):
            what = "gradient" if math.isfinite(sum(parts)) else "loss"
            guilty = [b for b, part in zip(batches, parts, strict=True) if not math.isfinite(part)] or batches
            names = ", ".join(name for batch in guilty for name in batch.sample_ids)
            raise UserError(
                f"The {what} is not finite in step {state.done + 1} (the weights are left as they were); the "
                f"samples are {names}: look at them, or lower the learning rate."
            )
        if gradient_norm:
            self._scaler.step(optimizer)  # nothing where gradients overflow
            self._scaler.update()
        else:
            optimizer.step()
        told = {"loss": sum(parts), "gradient_norm": gradient_norm, "targets": num_targets}
        if overflows:
            return told | {"gradient_norm": None, "skipped": True, "loss_scale": scale}
        self.task.after_step()
        return told | ({"loss_scale": scale} if self.precision == "float16" else {})

    def _validate(self, stage: Stage, step: int) -> dict[str, float]:
        """{"loss": all, "loss/de": one language, ...} and whatever `validate` adds."""
        self._model.eval()
        results: dict[str, float] = {}
        sums: dict[str, tuple[float, int]] = {}
        with self._autocast(), torch.no_grad(), self.task.judged():
            for language in dict.fromkeys(sample.language for sample in self.held_out):
                mine = [sample for sample in self.held_out if sample.language == language]
                loss, targets = 0.0, 0
                for piece in chunks(mine, stage.micro_batch or stage.batch_size):
                    batch = self.task.collate(piece)
                    loss += self.task.loss(batch.to(self._device), 1).item()
                    targets += batch.num_targets
                sums[language] = (loss, targets)
            if sums:
                results["loss"] = sum(loss for loss, _ in sums.values()) / sum(
                    count for _, count in sums.values()
                )
                results |= {f"loss/{language}": loss / count for language, (loss, count) in sums.items()}
            if self.validate:
                results |= self.validate(self._model, step)
        set_modes(self._model)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in results.items() if "/" not in name)
        self.console.print(f"step {step}  validation  {shown}")
        return results

    def _judge(self, state: State, results: dict[str, float]) -> tuple[State, bool]:
        assert self.validation is not None
        metric = self.validation.metrics[0]
        if metric not in results:
            raise UserError(
                f"The validation gives no '{metric}', only {', '.join(results)}: name one of these."
            )
        value = results[metric]
        better = state.best_value is None or (
            value < state.best_value if metric.startswith("loss") else value > state.best_value
        )
        if not better:
            return replace(state, stale=state.stale + 1), False
        return replace(state, best=state.name, best_value=value, results=results, stale=0), True

    def _out_of_patience(self, state: State) -> bool:
        patience = self.validation.patience if self.validation else None
        return patience is not None and state.stale >= patience

    def _end_stage(self, stage: Stage, state: State) -> State:
        """Go back to the best weights, and keep them as the start of the next stage."""
        if state.best and state.best_value is not None and state.best != state.name:
            self._load_weights(self._folder.weights(state.best))
            self.console.print(f"Stage '{stage.name}' ends with its best weights, those of {state.best}.")
        ended = State(stage=state.stage + 1, done=state.done, best=state.best, results=state.results)
        self._save(ended)
        return ended

    def _save(self, state: State, optimizer: torch.optim.Optimizer | None = None) -> None:
        moments = optimizer_tensors(optimizer) | scaler_tensors(self._scaler) if optimizer else {}
        self._folder.save(Checkpoint(state, self._weights(), moments))

    def _weights(self) -> dict[str, torch.Tensor]:
        """Everything that training has changed: parameters, and the statistics that their modules keep."""
        kept = {name: p for name, p in self._model.named_parameters() if id(p) in self._trained}
        tensors = self._model.state_dict()
        owners = {name.rpartition(".")[0] for name in kept}
        parameters = dict(self._model.named_parameters(remove_duplicate=False))
        buffers = [n for n in tensors if n not in parameters and n.rpartition(".")[0] in owners]
        weights = {name: tensors[name].contiguous() for name in [*kept, *buffers]}
        return weights | {f"{TASK}{name}": tensor for name, tensor in self.task.state().items()}

    def _load_weights(self, weights: dict[str, torch.Tensor]) -> None:
        mine = self._model.state_dict(keep_vars=True)
        with torch.no_grad():
            for name, tensor in weights.items():
                if not name.startswith(TASK):
                    mine[name].copy_(tensor)
        self.task.load_state({n.removeprefix(TASK): t for n, t in weights.items() if n.startswith(TASK)})

    def _autocast(self) -> torch.autocast:
        dtype = torch.float16 if self.precision == "float16" else torch.bfloat16
        return torch.autocast(self._device.type, dtype, enabled=self.precision != "float32")

    def _attention(self) -> AbstractContextManager[None]:
        slow = self.precision == "bfloat16" and self._device.type == "cpu"
        return _plain_attention(self._model) if slow else nullcontext()


@contextmanager
def _plain_attention(model: nn.Module) -> Iterator[None]:
    """Attention as plain products inside: the fused one of CPUs takes twice as long and more, backwards in bfloat16."""
    parts = [part for part in model.modules() if isinstance(part, PreTrainedModel)]
    chosen = [part.config._attn_implementation for part in parts]
    for part in parts:
        part.set_attn_implementation("eager")
    try:
        with sdpa_kernel(SDPBackend.MATH):  # for what is not transformers'
            yield
    finally:
        for part, implementation in zip(parts, chosen, strict=True):
            part.set_attn_implementation(implementation)


def _mix(*numbers: int) -> int:
    """One seed out of several numbers."""
    return int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:6], "big")


def _difference(before: Any, now: Any, place: str = "") -> str:
    """The first place where two trees differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *now]:
            if before.get(key) != now.get(key):
                return _difference(before.get(key), now.get(key), f"{place}.{key}" if place else key)
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for number, (one, other) in enumerate(zip(before, now, strict=True)):
            if one != other:
                return _difference(one, other, f"{place}.{number}")
    return f"{place} was {before!r}, now {now!r}"
