"""The training loop: steps over global batches, on one device or several.

A step is the mean over the answer tokens of its whole global batch, however it is cut into micro-batches and spread
over devices. Its random numbers come from seed and step alone, so that a training that was interrupted ends, on a CPU,
at the same bits as one that was not.
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from pipeline.config import LoraConfig
from pipeline.devices import move
from pipeline.errors import SetupError, UnavailableError
from pipeline.train.batches import TrainingBatch, TrainingBatches
from pipeline.train.checkpoint import Checkpoints
from pipeline.train.frozen_vision import is_blank
from pipeline.train.interruption import Interruption
from pipeline.train.loss import answer_loss
from pipeline.train.pace import StepTime, pace_of
from pipeline.train.schedule import rate_factor
from pipeline.train.seen_clips import KeptVision
from pipeline.train.sharding import SpreadModel, average_whole, clip_gradients, load_whole, spread_like, whole

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with a name, the steps done and the steps to do."""

Validate = Callable[[], dict[str, float]]

EXPLANATIONS = "validation/explanation_accuracy"
"""What decides which of several adapters is the best."""

# How gloo and NCCL say that a process at the other end is gone, which is no type of exception.
_LOST_PEER = re.compile(
    r"closed by peer|reset by peer|gloo.*timed out|NCCL|Connection refused|Broken pipe", re.IGNORECASE
)

_VALIDATIONS = 4
_NAMED_ROWS = 16


def precision(device: str, *, half: bool) -> AbstractContextManager[Any]:
    """Compute in bfloat16 where it can be within a block, or in float32."""
    return torch.autocast(device, dtype=torch.bfloat16) if half else nullcontext()


class _EndWantedError(KeyboardInterrupt):
    """The end is wanted and noticed between two batches, where the state is a whole one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one step was made of, over all devices: the mean loss of a token, the gradient's length before clipping.

    `places` are those of tokens and padding; `waiting_s` is how long this device waited for its batches.
    """

    loss: float
    grad_norm: float
    tokens: float
    places: float
    waiting_s: float


class Trainer:
    """Takes a model with LoRA through its steps.

    Attributes:
        step: steps done.
        steps: steps of the whole training.
        metrics: what the last validation measured.
        losses: mean loss of a token, of the first and of the last step taken here.
    """

    def __init__(
        self,
        model: Any,
        batches: TrainingBatches,
        config: LoraConfig,
        accelerator: Any,
        checkpoints: Checkpoints,
        *,
        half_precision: bool,
        chooses: bool = False,
        vision: KeptVision | None = None,
        spread: SpreadModel | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        """Prepare the model, on its device and with the parameters marked that are trained, for several devices.

        With `vision` the tower looks once at each clip; `spread` is the model where it is spread already. With
        `chooses` the weights of the validation with the most true explanations are those that are left, the later ones
        of equal ones.

        Raises:
            SetupError: the global batch cannot be made of micro-batches on so many devices.
        """
        world = accelerator.num_processes
        self._accumulated, left = divmod(config.batch_size, config.micro_batch * world)
        if left or not self._accumulated:
            raise SetupError(
                f"lora.batch_size={config.batch_size} is no multiple of lora.micro_batch={config.micro_batch} on "
                f"{world} devices"
            )
        self._config = config
        self._batches = batches
        self._accelerator = accelerator
        self._checkpoints = checkpoints
        self._half_precision = half_precision
        self._is_gpu = accelerator.device.type == "cuda"
        self._on_progress = on_progress
        self._vision = vision
        self._trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._groups = _groups(self._trained, config)
        # One kernel for all parameters instead of several for each; a CPU keeps the arithmetic that it has had.
        self._optimizer = torch.optim.AdamW(self._groups, fused=True if self._is_gpu else None)
        self.bare_model = model
        self._spread = spread
        self._model = accelerator.prepare_model(model) if spread is None else model
        self._epoch_steps = len(batches) // self._accumulated
        self.steps = config.epochs * self._epoch_steps
        self.step = 0
        self.metrics: dict[str, float] = {}
        self.losses: list[float] = []
        self._times: list[StepTime] = []
        self.is_alone = world == 1
        every = config.validate_every
        self._validate_every = (math.ceil(self.steps / _VALIDATIONS) if chooses else 0) if every is None else every
        self._chooses = chooses
        self._validated = 0
        self._best: dict[str, Any] = {}
        self._interruption = Interruption()
        self._state: dict[str, Any] = {}

    def run(self, validate: Validate, announce: Callable[[float], None]) -> None:
        """Train from the newest checkpoint on, to the last step, and validate there.

        `announce` is told before the first step how many seconds each will take, as far as that can be known.

        Raises:
            SetupError: the loss or the gradient is no finite number, or a checkpoint cannot be written.
            UnavailableError: another process that trains with this one is gone.
            KeyboardInterrupt: the user or a scheduler wants the end; a checkpoint of the last step is there.
        """
        self._restore()
        with self._interruption:
            try:
                self._train(validate, announce)
                self._validate(validate)
                self._take_best()
            except _EndWantedError:
                self._end_interrupted()
                raise
            except RuntimeError as fault:
                if self.is_alone or not _LOST_PEER.search(str(fault)):
                    raise
                raise self._lost(fault) from None

    def weights(self) -> dict[str, Tensor]:
        """Return what was trained by its name, put together from all devices; every process calls this."""
        return {name: whole(parameter.detach()).cpu() for name, parameter in self._trained.items()}

    def pace(self) -> dict[str, float]:
        """Return how fast the steps taken here were, see `pace_of`; empty where none was."""
        return pace_of(self._times) if self._times else {}

    def _end_if_wanted(self) -> None:
        if self._interruption.is_wanted:
            raise _EndWantedError

    def total(self, values: Tensor) -> Tensor:
        """Return the sums of numbers over all devices."""
        if self.is_alone:
            return values
        summed: Tensor = self._accelerator.reduce(values.to(self._accelerator.device), reduction="sum")
        return summed.cpu()

    def place(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return inputs on this process's device, labels where they are; a training that is alone can end here.

        Devices may look at different numbers of rows of validation: they cannot agree on an end here.
        """
        if self.is_alone:
            self._end_if_wanted()
        return {name: value if name == "labels" else self._moved(value) for name, value in inputs.items()}

    def _moved(self, value: Tensor) -> Tensor:
        if is_blank(value):
            return value[(0,) * value.dim()].to(self._accelerator.device).expand(value.shape)
        return move(value, self._accelerator.device)

    def precision(self) -> AbstractContextManager[Any]:
        """Compute in the training's precision within a block."""
        return precision(self._accelerator.device.type, half=self._half_precision)

    def _train(self, validate: Validate, announce: Callable[[float], None]) -> None:
        is_announced = False
        while self.step < self.steps:
            epoch, done = divmod(self.step, self._epoch_steps)
            if not done:
                self._batches.set_epoch(epoch)
            batches = iter(self._batches)
            if not is_announced:
                first = next(batches)
                announce(self._time(first) * self._accumulated)
                batches, is_announced = chain([first], batches), True
            while self.step < (epoch + 1) * self._epoch_steps:
                # Before a step, not after one: what goes on from a checkpoint may have missed it.
                if self._validated < self.step and self._is_due(self._validate_every):
                    self._validate(validate)
                self._advance(batches)

    def _time(self, batch: TrainingBatch) -> float:
        """Return the seconds that a micro-batch takes; nothing is learned from it."""
        self._begin_learning()
        started = 0.0
        for _ in range(2):  # the first pass makes kernels ready
            started = time.monotonic()
            with self._seeded(), self.precision():
                loss, _ = self._loss(batch)
            self._accelerator.backward(loss)
            self._optimizer.zero_grad(set_to_none=True)
            loss.item()
        return time.monotonic() - started

    def _loss(self, batch: TrainingBatch) -> tuple[Tensor, int]:
        inputs = self.place(batch.inputs)
        if self._vision is None:
            return answer_loss(self._model, inputs)
        with self._vision.shown(batch.views, self._moved):
            return answer_loss(self._model, inputs)

    @contextmanager
    def _seeded(self, *place: int) -> Iterator[None]:
        """Draw random numbers from the seed and a place, and leave the generators outside as they were."""
        with torch.random.fork_rng([self._accelerator.device] if self._is_gpu else []):
            torch.manual_seed(hash((self._config.seed, *place)) & 0x7FFF_FFFF)
            yield

    def _begin_learning(self) -> None:
        self._model.train()
        for module in self._model.modules():
            # The means of pretraining stay: a few rows of one camera are no sample of what a frozen tower will see.
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()

    def _advance(self, batches: Iterator[TrainingBatch]) -> None:
        started = time.monotonic()
        step = self._take_step(batches)
        self.step += 1
        self.losses = [*self.losses[:1], step.loss]
        seconds = time.monotonic() - started
        self._times.append(StepTime(seconds=seconds, waiting_s=step.waiting_s, tokens=step.tokens, places=step.places))
        self._log(step, seconds)
        self._state = self._snapshot()
        if self.step == self.steps or self._is_due(self._config.checkpoint_every):
            self._store()

    def _is_due(self, every: int) -> bool:
        return bool(every) and self.step < self.steps and self.step % every == 0

    def _take_step(self, batches: Iterator[TrainingBatch]) -> Step:
        factor = rate_factor(self.step, self.steps, self._config.warmup)
        for group in self._optimizer.param_groups:
            group["lr"] = group["highest_lr"] * factor
        self._begin_learning()
        self._optimizer.zero_grad(set_to_none=True)
        sums = torch.zeros(4, dtype=torch.float64)
        loss_sum = torch.zeros((), dtype=torch.float64, device=self._accelerator.device)
        ids: list[str] = []
        waiting_s = 0.0
        for place in range(self._accumulated):
            started = time.monotonic()
            batch = next(batches)
            waiting_s += time.monotonic() - started
            ids += batch.ids
            is_last = place == self._accumulated - 1
            if self._spread is not None:
                self._spread.begin_pass(is_last=is_last)
            with nullcontext() if is_last or self._spread else self._accelerator.no_sync(self._model):
                with self._seeded(self.step, place, self._accelerator.process_index), self.precision():
                    loss, answer_tokens = self._loss(batch)
                self._accelerator.backward(loss)
            seen = batch.inputs["attention_mask"]
            # Nothing is read off the device before the step's end: it need not stop between two micro-batches.
            loss_sum += loss.detach()
            sums += torch.tensor([0.0, answer_tokens, int(seen.sum()), seen.numel()], dtype=torch.float64)
            if self.is_alone:
                self._end_if_wanted()
        sums[0] = loss_sum.cpu()
        # The wish of any process to end goes along with what is summed anyway.
        wanted = torch.tensor([float(self._interruption.is_wanted)], dtype=torch.float64)
        summed, answer_tokens, tokens, places, ends = self.total(torch.cat([sums, wanted])).tolist()
        if ends:
            raise _EndWantedError
        if self._spread is not None:
            average_whole(self._trained.values(), self._accelerator)
        # Devices have averaged the gradients of their sums: what is wanted is the mean over the tokens of all.
        for parameter in self._trained.values():
            if parameter.grad is not None:
                parameter.grad.mul_(self._accelerator.num_processes / max(answer_tokens, 1))
        norm = self._clip_gradients()
        mean = summed / max(answer_tokens, 1)
        step = Step(loss=mean, grad_norm=norm, tokens=tokens, places=places, waiting_s=waiting_s)
        if not (math.isfinite(step.loss) and math.isfinite(step.grad_norm)):
            raise self._diverged(step, ids)
        self._optimizer.step()
        return step

    def _clip_gradients(self) -> float:
        parameters, longest = self._trained.values(), self._config.max_grad_norm
        if self._spread is not None:
            return clip_gradients(parameters, longest)
        return float(torch.nn.utils.clip_grad_norm_(parameters, longest))

    def _diverged(self, step: Step, ids: list[str]) -> SetupError:
        if not self.is_alone:
            from accelerate.utils import gather_object

            ids = gather_object(ids)
        rates = ", ".join(f"{group['name']} {group['lr']:.3g}" for group in self._optimizer.param_groups)
        named = ", ".join(ids[:_NAMED_ROWS]) + (f" and {len(ids) - _NAMED_ROWS} more" if len(ids) > _NAMED_ROWS else "")
        known = self._checkpoints.steps()
        kept = f"the checkpoint of step {known[-1]} stays" if known else "there is no checkpoint before it"
        return SetupError(
            f"step {self.step + 1} of {self.steps}: loss {step.loss:g}, gradient {step.grad_norm:g}: training stopped, "
            f"{kept}; learning rates: {rates}; rows: {named}"
        )

    def _lost(self, fault: RuntimeError) -> UnavailableError:
        known = self._checkpoints.steps()
        after = f"goes on after step {known[-1]}" if known else "begins anew"
        return UnavailableError(
            f"step {self.step + 1} of {self.steps}: another process of the training does not answer any more; the same "
            f"command {after} ({str(fault).splitlines()[0][:200]})"
        )

    def _validate(self, validate: Validate) -> None:
        self._model.eval()
        with self.precision():
            self.metrics = validate()
        self._accelerator.log(self.metrics, step=self.step)
        if self._accelerator.is_main_process and self.metrics:
            measured = ", ".join(f"{name.removeprefix('validation/')} {v:.4f}" for name, v in self.metrics.items())
            logger.info("validation after step %d: %s", self.step, measured)
        self._validated = self.step
        if self._chooses and self.metrics[EXPLANATIONS] >= self._best.get("metrics", {}).get(EXPLANATIONS, 0.0):
            weights = {name: whole(p.detach()).to("cpu", copy=True) for name, p in self._trained.items()}
            self._best = {"step": self.step, "metrics": self.metrics, "weights": weights}

    def _take_best(self) -> None:
        """Take the weights back whose explanations were the truest."""
        if not self._best or self._best["step"] == self.step:
            return
        if self._accelerator.is_main_process:
            logger.info(
                "the adapter of step %d is kept: its explanations are true for %.3f, those of the last step for %.3f",
                self._best["step"],
                self._best["metrics"][EXPLANATIONS],
                self.metrics[EXPLANATIONS],
            )
        self.metrics = self._best["metrics"]
        self._load(self._best["weights"])

    def _load(self, weights: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._trained.items():
                parameter.copy_(spread_like(weights[name], parameter))

    def _log(self, step: Step, seconds: float) -> None:
        rates = {f"train/{group['name']}": group["lr"] for group in self._optimizer.param_groups}
        values = {
            "train/loss": step.loss,
            "train/grad_norm": step.grad_norm,
            "train/tokens_per_s": step.tokens / max(seconds, 1e-9),
            **rates,
        }
        self._accelerator.log(values, step=self.step)
        if self._accelerator.is_main_process:
            logger.debug("step %d of %d: loss %.4f, gradient %.3g", self.step, self.steps, step.loss, step.grad_norm)
            if self._on_progress is not None:
                self._on_progress("train lora", self.step, self.steps)

    def _snapshot(self) -> dict[str, Any]:
        """Return the state after a step, its tensors shared with the training."""
        return {
            "step": self.step,
            "data": self._batches.state_dict(),
            "weights": {name: parameter.detach() for name, parameter in self._trained.items()},
            "optimizer": self._optimizer.state_dict(),
            "validated": self._validated,
            "best": self._best,
        }

    def _store(self) -> None:
        state = self._state if self._spread is None else whole(self._state)
        if self._accelerator.is_main_process:
            self._checkpoints.write(state["step"], state)
            if self.step == self.steps or self._interruption.is_wanted:
                self._checkpoints.finish()
        self._accelerator.wait_for_everyone()

    def _restore(self) -> None:
        state = self._checkpoints.newest(str(self._accelerator.device))
        if state is None:
            return
        self._load(state["weights"])
        load_whole(self._optimizer, state["optimizer"])
        self._batches.load_state_dict(state["data"])
        self.step, self._validated, self._best = int(state["step"]), state["validated"], state["best"]
        if self._accelerator.is_main_process:
            logger.info("going on after step %d of %d", self.step, self.steps)

    def _end_interrupted(self) -> None:
        if self._state and self._state["step"] not in self._checkpoints.steps():
            self._store()
        if self._accelerator.is_main_process:
            known = self._checkpoints.steps()
            at = f"after step {known[-1]} of {self.steps}" if known else "from the start"
            logger.warning("interrupted: the same command goes on %s", at)


def _groups(trained: dict[str, Any], config: LoraConfig) -> list[dict[str, Any]]:
    """Return the optimizer's groups: updates and projector at rates of their own, decay on matrices alone."""
    groups = []
    for name, rate, wanted in (("lr", config.lr, True), ("projector_lr", config.projector_lr, False)):
        for decays in (True, False):
            parameters = [p for key, p in trained.items() if (".lora_" in key) is wanted and (p.dim() >= 2) is decays]
            if parameters:
                decay = config.weight_decay if decays else 0.0
                groups.append(
                    {"params": parameters, "name": name, "highest_lr": rate, "lr": rate, "weight_decay": decay}
                )
    return groups
