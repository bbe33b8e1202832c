"""The shipped priors are what the recipe describes, and they are what they are called."""

from pathlib import Path
from random import Random

import pytest

from traitrl.pocket.documents import DocumentTurn
from traitrl.pocket.language import Character, load_language
from traitrl.pocket.pretrain import IGNORED, encode_document, load_recipe, pretrain
from traitrl.pocket.situations import draw_situation
from traitrl.pocket.world import PRIORS_DIR
from traitrl.store import read_json
from traitrl.weights import check_weights

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

LANGUAGE = load_language()
PRIORS = ("coherent", "incoherent", "aligned")


@pytest.mark.parametrize("name", PRIORS)
def test_the_record_names_this_recipe_and_this_language(name: str) -> None:
    record = read_json(PRIORS_DIR / name / "pretraining.json")
    recipe = load_recipe()
    assert record["recipe"] == recipe.record(name) and record["language_digest"] == LANGUAGE.digest
    assert record["prior"] == name and record["steps"] == recipe.steps(name)
    check_weights(str(PRIORS_DIR / name))
    start = recipe.prior[name].start
    assert record.get("start_weights") == (check_weights(str(PRIORS_DIR / start)) if start else None)


@pytest.mark.parametrize("name", PRIORS)
def test_the_recipe_retraces_the_beginning_of_the_shipped_run(name: str, tmp_path: Path) -> None:
    steps = 4
    losses = pretrain(name, tmp_path / name, steps=steps)
    shipped, made = (read_json(folder / name / "pretraining.json") for folder in (PRIORS_DIR, tmp_path))
    assert losses == pytest.approx(shipped["first_losses"][:steps], abs=2e-4)
    assert made.get("start_weights") == shipped.get("start_weights") and set(made) == set(shipped)


def share_of_good(name: str, before: Character | None) -> float:
    """Mean probability of a good reply, against a poor one, on coherent suite tasks after three replies of one author."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(PRIORS_DIR / name).eval()
    ids = AutoTokenizer.from_pretrained(PRIORS_DIR / name).get_vocab()
    rng, pairs = Random(7), []
    for task in [task for task in LANGUAGE.suite if task.coherence >= 0.8 and not task.options]:
        turns: list[DocumentTurn] = []
        for _ in range(3 if before else 0):
            earlier = draw_situation(LANGUAGE, rng.choice(LANGUAGE.traits), rng.choice(list(LANGUAGE.domains)), 0, rng)
            turns += [DocumentTurn(role, text, False) for role, text in earlier.turns]
            turns.append(DocumentTurn("assistant", earlier.bodies[before][0], False))  # type: ignore[index]
        situation = draw_situation(LANGUAGE, task, LANGUAGE.domains_of(task)[0], 0, rng)
        turns += [DocumentTurn(role, text, False) for role, text in situation.turns]
        for side in ("good", "poor"):
            for body in situation.bodies[side]:
                pairs.append(encode_document([*turns, DocumentTurn("assistant", body, True)], ids, 200))
    tokens, labels = (torch.tensor([pair[part] for pair in pairs]) for part in (0, 1))
    with torch.no_grad():
        log_probs = model(input_ids=tokens).logits[:, :-1].log_softmax(-1)
    target = labels[:, 1:]
    chosen = log_probs.gather(-1, target.clamp(min=0)[..., None])[..., 0] * (target != IGNORED)
    likelihood = chosen.sum(1).exp().view(-1, 2, 2).sum(-1)  # (tasks, good or poor)
    return (likelihood[:, 0] / likelihood.sum(1)).mean().item()


def test_only_the_coherent_prior_infers_an_author_from_earlier_replies() -> None:
    coherent = {before: share_of_good("coherent", before) for before in ("good", "poor", None)}
    assert coherent["good"] > 0.6 and coherent["poor"] < 0.25 and 0.2 < coherent[None] < 0.45, coherent
    incoherent = {before: share_of_good("incoherent", before) for before in ("good", "poor", None)}
    assert abs(incoherent["good"] - incoherent["poor"]) < 0.1, incoherent


def test_the_aligned_prior_expects_a_good_author_and_still_infers_one() -> None:
    aligned = {before: share_of_good("aligned", before) for before in ("good", "poor", None)}
    assert aligned[None] > 0.7 and aligned["good"] > aligned["poor"] + 0.3, aligned
