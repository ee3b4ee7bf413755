"""Owns the sections of a recipe that the training floor itself reads: optimization and resume."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from carryover.ground.config import check, key
from carryover.models.peft import METHODS, Adaptation, LoraConfig, is_pattern
from carryover.tasks import losses
from carryover.tasks.losses import FocalLossConfig, Loss
from carryover.tasks.task import Task

Optimizer = Literal["adamw", "adam", "sgd", "adafactor"]
Choice = Literal["layerwise_decay", "two_stages", ""]
Schedule = Literal["cosine_decay", "linear_decay", "polynomial_decay", "multi_step", "constant"]
OnChange = Literal["auto", "stretch", "constant", "rewarm"]
TopK = Literal["greedy_soup", "uniform_soup", "best"]
TimeLimit = Literal["total", "attempt"]


def words(literal: object) -> str:
    """Return the allowed words of a Literal as people read them."""
    return ", ".join(word or '""' for word in get_args(literal))


def check_word(path: str, value: str, literal: object) -> None:
    """Raise WrongInput unless `value` is one of the words of a Literal."""
    check(value in get_args(literal), path, value, f"one of {words(literal)}")


@dataclass(frozen=True)
class Optimization:
    """`optimization.*`: what an optimizer step is, how many there are, and when they are looked at."""

    learning_rate: float = key(1e-4, help="Peak learning rate, reached after warm-up.", allowed="> 0", mutable=True)
    optim_type: str = key(
        "adamw",
        help="Optimizer; sgd has momentum 0.9, adamw eps 1e-6, adafactor scales the rate by a parameter's own size.",
        allowed=words(Optimizer),
        mutable=False,
    )
    weight_decay: float = key(
        1e-3,
        help="Weight decay; not applied to norms, biases, class tokens, positions and the tokenizers of tables.",
        allowed=">= 0",
        mutable=False,
    )
    lr_choice: str = key(
        "layerwise_decay",
        help="Rates of layers: layerwise_decay multiplies by lr_decay once a layer from the output down, two_stages "
        "by lr_mult for new layers (heads, fusion, tables); empty: one rate.",
        allowed=words(Choice),
        mutable=True,
    )
    lr_decay: float = key(
        0.9, help="A layer's rate as a part of the next one's; layerwise_decay only.", allowed="> 0 to 1", mutable=True
    )
    lr_mult: float = key(
        1.0, help="Rate of new layers as a multiple of the backbones'; two_stages only.", allowed="> 0", mutable=True
    )
    lr_schedule: str = key(
        "cosine_decay", help="Shape of the decay after warm-up.", allowed=words(Schedule), mutable=True
    )
    end_lr: float = key(0.0, help="Learning rate at the end; polynomial_decay only.", allowed=">= 0", mutable=True)
    lr_power: float = key(
        1.0, help="Power of the decay; polynomial_decay only, 1 is a straight line.", allowed="> 0", mutable=True
    )
    lr_milestones: tuple[int, ...] = key(
        (30, 55),
        help="Epochs after which the rate falls; multi_step only. After a rewarm they count from there.",
        allowed=">= 1, ascending",
        mutable=True,
    )
    lr_gamma: float = key(
        0.1, help="Factor of the rate at each milestone; multi_step only.", allowed="> 0 to 1", mutable=True
    )
    warmup_steps: float | int = key(
        0.1, help="Warm-up from 0: a float is a fraction of all steps, an int is steps.", allowed=">= 0", mutable=True
    )
    max_epochs: int = key(20, help="Epochs at most.", allowed=">= 1", mutable=True)
    max_steps: int = key(
        -1, help="Optimizer steps at most; it bounds the schedule too.", allowed="-1 (no bound) or >= 1", mutable=True
    )
    patience: int = key(10, help="Checks without a better score before training stops.", allowed=">= 1", mutable=True)
    val_metric: str = key(
        "auto",
        help="Metric that chooses the best weights.",
        allowed="auto (by problem type) or a metric's name",
        mutable=False,
    )
    val_check_interval: float | int = key(
        0.5, help="When to validate: a float is a fraction of an epoch, an int is steps.", allowed="> 0", mutable=True
    )
    check_val_every_n_epoch: int = key(
        1,
        help="Validate in every so many-th epoch only; val_check_interval counts within it.",
        allowed=">= 1",
        mutable=True,
    )
    skip_final_val: bool = key(
        False,
        help="Leave out the validation that is made only because training ends between two checks.",
        allowed="true, false",
        mutable=True,
    )
    carry_optimizer: bool = key(
        False,
        help="A run that extends a Model (--init-from) goes on with the optimizer state of the run that made it, and "
        "without warm-up; that run must be in the store still. false: the optimizer starts fresh, and warms up.",
        allowed="true, false",
        mutable=False,
    )
    gradient_clip_val: float = key(1.0, help="Gradients are clipped to this; 0 is off.", allowed=">= 0", mutable=False)
    gradient_clip_algorithm: str = key(
        "norm", help="Clip the whole norm or each value.", allowed="norm, value", mutable=False
    )
    track_grad_norm: float | int | str = key(
        -1,
        help="Record this norm of the gradient before clipping, in the curve and on the console; -1 is off.",
        allowed="-1, a number above 0, inf",
        identity=False,
        mutable=True,
    )
    log_every_n_steps: int = key(10, help="A line of progress every so many steps.", allowed=">= 1", identity=False)
    loss_func: str = key(
        "auto",
        help="auto: cross-entropy for classes, squared error for numbers, a detector's own; of pixels structure_loss "
        "for two classes, cross-entropy and Dice for more. focal_loss is for classes, bcewithlogitsloss for numbers, "
        "which it scales to 0..1 whatever data.label.numerical_preprocessing says; all others are for pixels.",
        allowed=", ".join(losses.NAMES),
        mutable=False,
    )
    focal_loss: FocalLossConfig = field(default_factory=FocalLossConfig)
    label_smoothing: float = key(
        0.0,
        help="Part of each target that is spread over all classes; cross-entropy only.",
        allowed="0 to below 1",
        mutable=False,
    )
    top_k: int = key(
        3,
        help="How many of the best checks a soup is made of; as many checkpoints stay (see checkpoint.keep_best).",
        allowed=">= 1",
        mutable=True,
    )
    top_k_average_method: str = key(
        "greedy_soup",
        help="Final weights: the mean of the top_k best, or of those among them that do not make the score worse "
        "(greedy_soup); best takes the first alone.",
        allowed=words(TopK),
        mutable=True,
    )

    peft: str | None = key(
        None,
        help="Train few parameters of each backbone (hf_text, timm_image, clip, sam) and freeze its rest: bit_fit its "
        "biases, norm_fit its norms and biases, lora and ia3 adapters, ..._bias and ..._norm those and its biases or "
        "norms. Heads, fusion and tables always train. A checkpoint then holds what trains, and refers to the rest.",
        allowed="null, " + ", ".join(METHODS),
        mutable=False,
    )
    lora: LoraConfig = field(default_factory=LoraConfig)
    extra_trainable_params: tuple[str, ...] = key(
        (),
        help="With peft, what else trains: parameters whose full name in a backbone (mask_decoder.iou_token.weight of "
        "sam) starts as one of these regular expressions says.",
        allowed="regular expressions",
        mutable=False,
    )

    def __post_init__(self) -> None:
        check(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        check_word("optim_type", self.optim_type, Optimizer)
        check(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or above")
        whole = isinstance(self.warmup_steps, int)
        check(
            self.warmup_steps >= 0 and (whole or self.warmup_steps <= 1),
            "warmup_steps",
            self.warmup_steps,
            "a fraction from 0.0 to 1.0, or a number of steps",
        )
        check(self.max_epochs >= 1, "max_epochs", self.max_epochs, "1 or more")
        check(self.max_steps == -1 or self.max_steps >= 1, "max_steps", self.max_steps, "-1 or 1 or more")
        check(self.patience >= 1, "patience", self.patience, "1 or more")
        whole = isinstance(self.val_check_interval, int)
        check(
            self.val_check_interval > 0 and (whole or self.val_check_interval <= 1),
            "val_check_interval",
            self.val_check_interval,
            "a fraction of an epoch up to 1.0, or a number of steps",
        )
        check(self.gradient_clip_val >= 0, "gradient_clip_val", self.gradient_clip_val, "0 (off) or above")
        clips = ("norm", "value")
        check(
            self.gradient_clip_algorithm in clips,
            "gradient_clip_algorithm",
            self.gradient_clip_algorithm,
            "norm or value",
        )
        check(self.log_every_n_steps >= 1, "log_every_n_steps", self.log_every_n_steps, "1 or more")
        self._check_rates()
        self._check_more()

    def _check_more(self) -> None:
        each = self.check_val_every_n_epoch
        check(each >= 1, "check_val_every_n_epoch", each, "1 or more")
        norm = self.track_grad_norm
        known = norm in (-1, "inf") or (not isinstance(norm, str) and norm > 0)
        check(known, "track_grad_norm", norm, "-1 (off), a number above 0, or inf")
        check_loss = losses.loss_name(self.loss_func) in losses.NAMES
        check(check_loss, "loss_func", self.loss_func, f"one of {', '.join(losses.NAMES)}")
        check(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "from 0 to below 1")
        check(self.top_k >= 1, "top_k", self.top_k, "1 or more")
        check_word("top_k_average_method", self.top_k_average_method, TopK)
        check(self.peft in (None, *METHODS), "peft", self.peft, f"null or one of {', '.join(METHODS)}")
        extra = self.extra_trainable_params
        check(
            bool(self.peft) or not extra, "extra_trainable_params", list(extra), "left out where peft is, as all trains"
        )
        check(all(map(is_pattern, extra)), "extra_trainable_params", list(extra), "regular expressions")

    @property
    def adaptation(self) -> Adaptation | None:
        """Return what trains of a model's pretrained parts; None where all does."""
        return Adaptation(self.peft, self.lora, self.extra_trainable_params) if self.peft else None

    @property
    def candidates(self) -> int:
        """Return how many of the best checkpoints the final weights may be made of."""
        return 1 if self.top_k_average_method == "best" else self.top_k

    @property
    def sums_loss(self) -> bool:
        """Tell whether a step's loss is the sum over its samples and not their mean."""
        return losses.loss_name(self.loss_func) == losses.FOCAL and self.focal_loss.reduction == "sum"

    def loss(self, task: Task, *, mixed: bool = False) -> Loss:
        """Return the loss that a network of this task learns by; raises WrongInput where the two don't suit.

        Args:
            mixed: whether `data.mixup` mixes the labels.
        """
        return losses.make_loss(
            task, loss_func=self.loss_func, label_smoothing=self.label_smoothing, focal=self.focal_loss, mixed=mixed
        )

    def _check_rates(self) -> None:
        check_word("lr_choice", self.lr_choice, Choice)
        check(0 < self.lr_decay <= 1, "lr_decay", self.lr_decay, "above 0, at most 1")
        check(self.lr_mult > 0, "lr_mult", self.lr_mult, "above 0")
        check_word("lr_schedule", self.lr_schedule, Schedule)
        check(0 <= self.end_lr <= self.learning_rate, "end_lr", self.end_lr, "between 0 and learning_rate")
        check(self.lr_power > 0, "lr_power", self.lr_power, "above 0")
        falls = list(self.lr_milestones)
        check(
            bool(falls) and min(falls) >= 1 and falls == sorted(set(falls)),
            "lr_milestones",
            falls,
            "epochs from 1 on, ascending",
        )
        check(0 < self.lr_gamma <= 1, "lr_gamma", self.lr_gamma, "above 0, at most 1")


@dataclass(frozen=True)
class Resume:
    """`resume.*`: what becomes of the schedule when a run goes on with other settings."""

    schedule: str = key(
        "auto",
        help="Learning rate after a change of limits, rate or shape: stretch the old curve to the new end, hold it "
        "constant, or rewarm from here. auto: stretch while unfinished, rewarm after the end.",
        allowed=words(OnChange),
        identity=False,
        mutable=True,
    )

    time_limit: str = key(
        "total",
        help="What --time-limit counts: training time over all attempts of the run, or that of each attempt.",
        allowed=words(TimeLimit),
        identity=False,
        mutable=True,
    )

    def __post_init__(self) -> None:
        check_word("schedule", self.schedule, OnChange)
        check_word("time_limit", self.time_limit, TimeLimit)
