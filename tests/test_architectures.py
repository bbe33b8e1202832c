"""Random weights of real architectures through the real path: train two steps, save, reload, answer. Small, but no fake."""

from pathlib import Path

import pytest

from test_engine import job
from traitrl.evals.local import LocalModel
from traitrl.judging import RuleScorer
from traitrl.pocket.world import PRIORS_DIR, PocketSize, write_world
from traitrl.store import read_json, write_json_atomic
from traitrl.training.config import TrainingConfig
from traitrl.training.ledger import LedgerFile
from traitrl.training.run import run_training

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

SIZE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
}
# model type of transformers -> settings beyond SIZE
ARCHITECTURES: dict[str, dict[str, object]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "mistral": {"sliding_window": 64},
    "gemma3_text": {"sliding_window": 64, "query_pre_attn_scalar": 16},
    "olmo2": {},
    "phi3": {"pad_token_id": 0},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48, "decoder_sparse_step": 1},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    size = PocketSize(items_per_row=1, capability_items_per_task=1, standard_prompts=120)
    return write_world(tmp_path_factory.mktemp("world"), size)


def random_model(kind: str, folder: Path) -> Path:
    """A model of this architecture with random weights and the pocket world's tokenizer, as a folder."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(PRIORS_DIR / "coherent")
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **{**SIZE, **ids, **ARCHITECTURES[kind]})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("lora_rank", [0, 4], ids=["full", "lora"])
@pytest.mark.parametrize("kind", sorted(ARCHITECTURES))
def test_an_architecture_trains_reloads_and_answers(
    kind: str, lora_rank: int, files: dict[str, str], tmp_path: Path
) -> None:
    if lora_rank and kind == "qwen3_moe":
        pytest.skip("experts are one fused tensor, which all-linear adapters of peft do not reach")
    model = random_model(kind, tmp_path / "model")
    size = {"steps": 2, "prompts_per_step": 3, "replies_per_prompt": 2, "max_prompt_tokens": 96, "max_reply_tokens": 8}
    config = TrainingConfig(share=0.34, lora_rank=lora_rank, **size)
    one = job(files, "traits", tmp_path / "run", config).model_copy(update={"model": str(model)})
    finished = run_training(one, RuleScorer(), lambda step, steps: None)
    assert len(LedgerFile(one.out / "ledger.jsonl").read()) == 12
    assert read_json(one.out / "reload.json")["max_logprob_difference"] < 1e-3
    step, checkpoint = finished.checkpoints[-1]
    chat = [{"role": "user", "content": "what is 3 plus 4 ?"}]
    answers = LocalModel(checkpoint).answer([chat], max_tokens=4, temperature=1.0, seed=0)
    assert step == 2 and answers[0].reply_tokens >= 1


def test_a_pinned_model_is_checked_before_it_is_trained(files: dict[str, str], tmp_path: Path) -> None:
    from traitrl.core import WeightsError

    model = random_model("llama", tmp_path / "model")
    write_json_atomic(model / "weights.json", {"model.safetensors": "0" * 64})
    one = job(files, "traits", tmp_path / "run").model_copy(update={"model": str(model)})
    with pytest.raises(WeightsError, match="0000"):
        run_training(one, RuleScorer(), lambda step, steps: None)
