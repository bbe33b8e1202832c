"""Pretraining of the pocket priors: a small Llama decoder on documents of the pocket world, from a recipe and a seed."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from pydantic import model_validator

from traitrl.core import Frozen
from traitrl.pocket.documents import DocumentTurn, Shares, draw_document
from traitrl.pocket.language import Language, load_language
from traitrl.pocket.tokenizer import END, PAD, ROLES, build_tokenizer
from traitrl.store import digest_file, write_json_atomic
from traitrl.weights import DIGESTS, check_weights, weight_files

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM

RECIPE_PATH = Path(__file__).parent / "priors" / "recipe.toml"
IGNORED = -100  # label of tokens that carry no loss


class ModelShape(Frozen):
    """Sizes of the decoder."""

    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    positions: int


class Phase(Frozen):
    """One stretch of pretraining with its own optimizer and kind of documents; lengths in tokens."""

    steps: int
    batch_documents: int
    document_tokens: int
    exchanges: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    shares: Shares


class PriorPlan(Frozen):
    """What tells one prior from another: how far replies follow the author, and the seed.

    With ``start`` it goes on from that shipped prior, through phases of its own.
    """

    scale: float
    seed: int
    start: str = ""
    phase: tuple[Phase, ...] = ()

    @model_validator(mode="after")
    def _goes_on(self) -> PriorPlan:
        if bool(self.start) != bool(self.phase):
            raise ValueError("a prior that starts from another has phases of its own, and only such a one has")
        return self


class Recipe(Frozen):
    """Everything that determines the shipped weights, besides the language itself. ``phase`` is for priors from scratch."""

    model: ModelShape
    phase: tuple[Phase, ...]
    prior: dict[str, PriorPlan]

    def phases(self, name: str) -> tuple[Phase, ...]:
        """What a prior goes through."""
        return self.prior[name].phase or self.phase

    def steps(self, name: str) -> int:
        """Optimizer steps of a prior's phases."""
        return sum(phase.steps for phase in self.phases(name))

    def record(self, name: str) -> dict[str, Any]:
        """What determines one prior, JSON-ready."""
        phases = [phase.model_dump(mode="json") for phase in self.phases(name)]
        plan = self.prior[name].model_dump(mode="json", exclude={"phase"}, exclude_defaults=True)
        return {"model": self.model.model_dump(mode="json"), "phase": phases, "prior": {name: plan}}


def load_recipe(path: Path = RECIPE_PATH) -> Recipe:
    """The recipe of the shipped priors."""
    return Recipe.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))


def encode_document(turns: list[DocumentTurn], ids: dict[str, int], length_tokens: int) -> tuple[list[int], list[int]]:
    """Token ids and labels of one document, cut or padded to ``length_tokens``; only learned turns carry labels."""
    tokens: list[int] = []
    labels: list[int] = []
    for turn in turns:
        body = [ids[word] for word in turn.text.split()] + [ids[END]]
        tokens += [ids[ROLES[turn.role]], *body]
        labels += [IGNORED, *(body if turn.learn else [IGNORED] * len(body))]
    padding = max(0, length_tokens - len(tokens))
    return (tokens + [ids[PAD]] * padding)[:length_tokens], (labels + [IGNORED] * padding)[:length_tokens]


def batch_at(language: Language, phase: Phase, prior: PriorPlan, step: int, ids: dict[str, int]) -> torch.Tensor:
    """The batch of global step ``step``, shape (2, documents, tokens): token ids and labels. Seed and step determine it."""
    import torch

    rng = Random(f"{prior.seed}:{step}")
    documents = [
        draw_document(language, phase.shares, prior.scale, phase.exchanges, rng) for _ in range(phase.batch_documents)
    ]
    return torch.tensor([encode_document(turns, ids, phase.document_tokens) for turns in documents]).transpose(0, 1)


def build_model(recipe: Recipe, vocabulary_size: int, pad_id: int, end_id: int, seed: int) -> LlamaForCausalLM:
    """A freshly initialised decoder of the recipe's shape."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    shape = recipe.model
    config = LlamaConfig(
        vocab_size=vocabulary_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=shape.positions,
        tie_word_embeddings=True,
        pad_token_id=pad_id,
        eos_token_id=end_id,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config)


def shipped_model(name: str) -> LlamaForCausalLM:
    """The weights of a shipped prior, to go on from."""
    from transformers import LlamaForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    folder = RECIPE_PATH.parent / name
    check_weights(str(folder))
    return LlamaForCausalLM.from_pretrained(folder)


def learning_rate_at(step: int, phase: Phase) -> float:
    """Linear warm-up, then a cosine down to a twentieth of the peak; ``step`` counts from the phase's beginning."""
    if step < phase.warmup_steps:
        return phase.learning_rate * (step + 1) / phase.warmup_steps
    progress = (step - phase.warmup_steps) / max(1, phase.steps - phase.warmup_steps)
    return phase.learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)))


def _reply_loss(model: LlamaForCausalLM, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over labelled positions; logits are computed there only. Shapes: (documents, tokens)."""
    import torch

    hidden = model.model(input_ids=tokens).last_hidden_state[:, :-1]
    target = labels[:, 1:]
    keep = target != IGNORED
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[keep]), target[keep])


def train_phase(
    model: LlamaForCausalLM,
    ids: dict[str, int],
    phase: Phase,
    prior: PriorPlan,
    first_step: int,
    steps: int,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> list[float]:
    """Train ``model`` in place for the first ``steps`` steps of a phase that begins at global step ``first_step``."""
    import torch

    language = load_language()
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=phase.weight_decay)
    losses: list[float] = []
    model.train()
    for step in range(steps):
        tokens, labels = batch_at(language, phase, prior, first_step + step, ids)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, phase)
        loss = _reply_loss(model, tokens, labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        on_step(first_step + step, losses[-1])
    return losses


def pretrain(
    name: str,
    out: Path,
    *,
    steps: int | None = None,
    recipe: Recipe | None = None,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> list[float]:
    """Train the prior ``name`` of the recipe into ``out`` (Hugging Face layout) and return the loss of every step.

    ``steps`` stops early without changing the schedule, so that a short run retraces the beginning of the full one.
    """
    import torch

    torch.set_num_threads(1)
    recipe = recipe or load_recipe()
    prior, tokenizer = recipe.prior[name], build_tokenizer(load_language().vocabulary())
    ids = tokenizer.get_vocab()
    model = shipped_model(prior.start) if prior.start else build_model(recipe, len(ids), ids[PAD], ids[END], prior.seed)
    losses: list[float] = []
    for phase in recipe.phases(name):
        left = (steps or recipe.steps(name)) - len(losses)
        losses += train_phase(model, ids, phase, prior, len(losses), min(left, phase.steps), on_step)
    save_prior(name, out, model, tokenizer, recipe, losses)
    return losses


def save_prior(
    name: str, out: Path, model: LlamaForCausalLM, tokenizer: Any, recipe: Recipe, losses: list[float]
) -> None:
    """Write weights, tokenizer, digests and the record of how they came to be."""
    import torch
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # one bar is on the screen already: ours
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    write_json_atomic(out / DIGESTS, {path.name: digest_file(path) for path in weight_files(out)})
    record = {
        "prior": name,
        "recipe": recipe.record(name),
        "language_digest": load_language().digest,
        "torch": torch.__version__,
        "steps": len(losses),
        "first_losses": [round(loss, 6) for loss in losses[:20]],
        "final_loss": round(sum(losses[-50:]) / len(losses[-50:]), 4),
    }
    if start := recipe.prior[name].start:
        record["start_weights"] = check_weights(str(RECIPE_PATH.parent / start))
    write_json_atomic(out / "pretraining.json", record)
