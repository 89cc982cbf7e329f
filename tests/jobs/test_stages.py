"""Stages read each sealed table once, for its rows and its digest."""

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from stratalaw.damage.memory import weight_bytes
from stratalaw.files import sha256
from stratalaw.jobs.stages import convert_checkpoint, draw_calibration, measure_damage, record_requests
from stratalaw.models.folder import AUDIT, ModelError, copy_model
from stratalaw.seals import Seal, read_record, seal_of, write_table
from tests.hub_server import HubRepository

MADE = Path(__file__).parents[1] / "quantization" / "checkpoints"


@pytest.fixture
def reads(monkeypatch) -> Counter[str]:
    """How often each file was read, by name."""
    counted, read = Counter(), Path.read_bytes

    def read_and_count(path: Path) -> bytes:
        counted[path.name] += 1
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_and_count)
    return counted


def test_a_damage_table_is_made_from_one_read_of_the_items_and_says_which(tmp_path, reads):
    scores = pd.DataFrame({"stratum": "reasoning", "task": "chains", "document": range(40), "score": [0.0, 1.0] * 20})
    items = pd.concat([scores.assign(model="m", variant=name) for name in ("bf16", "w4-g128-c8-s0")])
    study = tmp_path / "ladder"
    digest = write_table(items.reset_index(drop=True), study / "items.parquet", Seal("items", {"study": "ladder"}, {}))
    reads.clear()
    measure_damage(
        [str(tmp_path / "m")],
        [],
        *(str(study / name) for name in ("items.parquet", "damage.csv", "damage.parquet")),
        [str(tmp_path / "damage.rst")],
    )
    assert reads["items.parquet"] == 1
    assert seal_of(study / "damage.parquet", "damage").made_from == {"items": digest}


@pytest.mark.parametrize(
    ("stage", "file"),
    [
        (lambda model: record_requests(model, {}, {}, [], [], []), "tokenizer.json"),
        (
            lambda model: draw_calibration(model, {"corpus": f"{model}/config.json"}, [], 8, 256, None, "s0"),
            "tokenizer.json",
        ),
        (lambda model: weight_bytes(Path(model), ["bf16"]), "config.json"),
    ],
    ids=["requests", "calibration", "damage"],
)
def test_what_is_read_of_a_model_is_whole(tmp_path, stage, file):
    """One flipped bit of a tokenizer gives other tokens without an error."""
    model = tmp_path / "tiny"
    copy_model(MADE / "model", model)
    content = bytearray((model / file).read_bytes())
    content[len(content) // 2] ^= 1
    (model / file).write_bytes(content)
    with pytest.raises(ModelError, match=f"{file}: changed since it was copied"):
        stage(str(model))


@pytest.mark.parametrize(("made", "file"), [("gptq", None), ("gguf-q4_0", "files/model.gguf")])
def test_a_checkpoint_of_the_hub_becomes_the_weights_of_one_that_is_here(hub, tmp_path, monkeypatch, made, file):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    folder = MADE / made
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    files = {"files/model.gguf": files["model.gguf"]} if file else files
    files["tokenizer.json"] = (MADE / "model" / "tokenizer.json").read_bytes()
    hub.repositories["models/some/one"] = HubRepository("1" * 40, files)
    copy_model(MADE / "model", tmp_path / "tiny")
    source = str(folder / "model.gguf") if file else str(folder)
    places = [str(tmp_path / place / "mine") for place in ("hub", "here")]
    convert_checkpoint(str(tmp_path / "tiny"), "some/one", "1" * 40, file, str(tmp_path / "downloads"), places[0])
    convert_checkpoint(str(tmp_path / "tiny"), source, None, None, str(tmp_path / "downloads"), places[1])
    first, second = (sha256(Path(place) / "model.safetensors") for place in places)
    assert first == second
    audit = read_record(Path(places[0]) / AUDIT, "checkpoint")
    assert audit["source"] == f"some/one@{'1' * 40}" + (f"/{file}" if file else "")
    assert list((tmp_path / "downloads").iterdir()) == []
