"""A run goes on from its newest valid checkpoint, and says why it cannot."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import threading
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_recipes
from raekit.errors import UserError
from raekit.training.loop import Trainer
from raekit.training.saving import checkpoint_files
from raekit.training.saving.run import step_of
from raekit.training.saving.snapshots import Progress

Usage = namedtuple("Usage", "total used free")


def trained(folder: Path, steps: int = 4, **options: Any) -> Any:
    recipe = tiny_recipes.resolve(tiny_recipes.stage1(folder), steps=steps, **options)
    Trainer(recipe).train()
    return recipe


def steps_kept(trainer: Trainer) -> list[int]:
    return [step_of(path) for path in trainer.run.checkpoint_paths()]


def test_step_and_data_position_come_back(tmp_path: Path) -> None:
    recipe = trained(tmp_path, 2)
    assert Trainer(recipe, is_resumed=True).progress == Progress(step=2, position=16)


def test_a_damaged_newest_is_named_and_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe = trained(tmp_path)
    newest = recipe.run / "checkpoints" / "step_00000004"
    intact = checkpoint_files.load(newest)
    os.truncate(newest / "__0_0.distcp", 1000)
    with caplog.at_level(logging.WARNING):
        trainer = Trainer(recipe, is_resumed=True)
    assert trainer.step == 2
    assert "step_00000004 is damaged (__0_0.distcp has 1000 bytes, not" in caplog.text
    assert (recipe.run / "checkpoints" / "damaged_step_00000004").is_dir()
    trainer.train()
    again = checkpoint_files.load(newest)
    assert all(torch.equal(value, again.tensors["model"][name]) for name, value in intact.tensors["model"].items())


def test_a_newest_that_the_disk_does_not_give_back_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = trained(tmp_path)
    digest = checkpoint_files.sha256

    def rotten(path: Path) -> str:
        if path.parent.name == "step_00000004":
            raise OSError(errno.EIO, "Input/output error")
        return digest(path)

    monkeypatch.setattr(checkpoint_files, "sha256", rotten)
    assert Trainer(recipe, is_resumed=True).step == 2
    assert "step_00000004 is damaged (.metadata cannot be read (Input/output error))" in caplog.text


def test_with_every_checkpoint_damaged_all_are_named(tmp_path: Path) -> None:
    recipe = trained(tmp_path)
    for path in (recipe.run / "checkpoints").iterdir():
        (path / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"damaged: step_00000004 \(no readable .*\), step_00000002 \(no readable"):
        Trainer(recipe, is_resumed=True)


def test_resuming_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint to resume from; start without --resume"):
        Trainer(tiny_recipes.resolve(tiny_recipes.stage1(tmp_path)), is_resumed=True)


def test_going_back_in_the_same_process(tmp_path: Path) -> None:
    trainer = Trainer(tiny_recipes.resolve(tiny_recipes.stage1(tmp_path), steps=6, keep_last=3))
    trainer.train()
    with trainer.run:
        assert steps_kept(trainer) == [6, 4, 2]
        trainer.progress = trainer.snapshots.resume(before=6)
        assert trainer.step == 4 and steps_kept(trainer) == [4, 2]
        trainer.train()
        assert steps_kept(trainer) == [6, 4, 2]


def test_going_back_does_not_hold_the_moments_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(tiny_recipes.resolve(tiny_recipes.stage1(tmp_path), steps=4, keep_last=3))
    trainer.train()
    before = {name: tensor.clone() for updater in trainer.updaters.values() for name, tensor in updater.state().items()}
    held: list[int] = []
    read = checkpoint_files.read_into

    def reading(*arguments: object) -> None:
        held.append(sum(len(updater.state()) for updater in trainer.updaters.values()))
        read(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpoint_files, "read_into", reading)
    with trainer.run:
        trainer.progress = trainer.snapshots.resume(before=4)
        assert held == [0], "while the old moments' successors are read"
        trainer.train()
    after = {name: tensor for updater in trainer.updaters.values() for name, tensor in updater.state().items()}
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)


def test_some_are_kept_for_good(tmp_path: Path) -> None:
    recipe = trained(tmp_path, 8, keep_last=1, keep_every_steps=4, save_every_steps=1)
    assert steps_kept(Trainer(recipe, is_resumed=True)) == [8, 4]


def test_a_finished_run_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = trained(tmp_path, 2)
    artefact = recipe.run / "autoencoder"
    before = {path: path.stat().st_mtime_ns for path in artefact.iterdir()}
    trainer = Trainer(recipe, is_resumed=True)
    assert trainer.train() == artefact
    assert {path: path.stat().st_mtime_ns for path in artefact.iterdir()} == before
    shutil.rmtree(artefact)  # as a kill between the last checkpoint and the export leaves it
    assert Trainer(recipe, is_resumed=True).train() == artefact and artefact.is_dir()


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    recipe = trained(tmp_path, 2)
    values = recipe.model_dump(mode="json")
    values["autoencoder"]["decoder"]["depth"] += 1
    with pytest.raises(UserError, match=r"has no model/.*; resume with the recipe it was made by"):
        Trainer(tiny_recipes.resolve(values), is_resumed=True)


def changed(recipe: Any, **top: Any) -> Any:
    return tiny_recipes.resolve({**recipe.model_dump(mode="json"), **top})


def test_what_users_change_is_logged_and_taken_and_what_breaks_the_run_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = trained(tmp_path, 2)
    papers = (recipe.run / "recipe.yaml").read_text()
    muon, lr = ({**recipe.optim.model_dump(mode="json"), **new} for new in ({"name": "muon"}, {"lr": 5e-4}))
    two = recipe.data.model_dump(mode="json")
    two["mixture"] *= 2
    for other, words in (
        ({"optim": muon}, "optim.name is 'muon', was 'adamw', and the moments"),
        ({"seed": 7}, "seed is 7, was 0, and its position"),
        ({"data": two}, r"data.mixture.1.name is 'folder', was absent"),
    ):
        with pytest.raises(UserError, match=f"step_00000002': {words}.*; resume with .*--run DIR"):
            Trainer(changed(recipe, **other), is_resumed=True)
    assert (recipe.run / "recipe.yaml").read_text() == papers, "a recipe that was refused is not written down"
    train = {**recipe.train.model_dump(mode="json"), "steps": 8, "log_every_steps": 2}
    caplog.clear()
    assert Trainer(changed(recipe, optim=lr, train=train), is_resumed=True).step == 2
    told = [record.message for record in caplog.records if "recipe has changed" in record.message]
    assert [line.split("changed: ")[1] for line in told] == [
        "optim.lr is 0.0005, was 0.001", "train.steps is 8, was 2", "train.log_every_steps is 2, was 1"
    ]  # fmt: skip
    assert "lr: 0.0005" in (recipe.run / "recipe.yaml").read_text()


def test_a_checkpoint_that_does_not_know_its_recipe_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe = trained(tmp_path, 2)
    manifest = recipe.run / "checkpoints" / "step_00000002" / "manifest.json"
    content = json.loads(manifest.read_text())
    del content["state"]["recipe"]
    manifest.write_text(json.dumps(content))
    assert Trainer(changed(recipe, seed=7), is_resumed=True).step == 2
    assert caplog.text.count("does not say what recipe it is of") == 1


def test_data_that_have_changed_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe = trained(tmp_path, 2)
    Trainer(recipe, is_resumed=True)
    assert "the data have changed" not in caplog.text
    pictures = tmp_path / "pictures"
    shutil.copy(next(pictures.glob("*.png")), pictures / "another.png")
    Trainer(recipe, is_resumed=True)
    assert caplog.text.count("since checkpoint step_00000002 the data have changed, so samples may come twice") == 1


def test_a_run_that_is_past_its_end_says_so(tmp_path: Path) -> None:
    recipe = trained(tmp_path, 4)
    train = {**recipe.train.model_dump(mode="json"), "steps": 2}
    with pytest.raises(UserError, match=r"train.steps: 2, but run .* is at step 4 already; raise train.steps"):
        Trainer(changed(recipe, train=train), is_resumed=True)


def test_no_room_is_told_before_the_first_step_and_before_a_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipes.resolve(tiny_recipes.stage1(tmp_path))
    trainer = Trainer(recipe)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 1000))
    with pytest.raises(UserError, match=r"saving step 2 needs .* MB but the disk of .* has 0.0 MB free; free some"):
        trainer.train()
    assert steps_kept(trainer) == []
    with pytest.raises(UserError, match=r"a checkpoint of this run needs .* MB but"):
        Trainer(recipe)


def test_writing_in_the_background_saves_the_step_it_was_asked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = tiny_recipes.stage1(tmp_path)
    go, write = threading.Event(), checkpoint_files.write

    def write_later(*arguments: Any) -> None:
        assert go.wait(60)
        write(*arguments)

    monkeypatch.setattr(checkpoint_files, "write", write_later)
    trainer = Trainer(tiny_recipes.resolve(values, steps=4, save_every_steps=1000, save_in_background=True))
    micros = trainer.ready(trainer.stage.batches(0, 8))
    trainer.train_step(micros)
    expected = {name: value.clone() for name, value in trainer.stage.state().items()}
    path = trainer.save()
    trainer.train_step(micros)  # while the thread has not written anything yet
    assert not path.exists()
    go.set()
    trainer.snapshots.wait()
    saved = checkpoint_files.load(path).tensors["model"]
    assert all(torch.equal(value, saved[name]) for name, value in expected.items())
    assert any(not torch.equal(value, saved[name]) for name, value in trainer.stage.state().items())


def test_after_an_error_in_the_background_the_present_state_is_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write = checkpoint_files.write

    def refuse_some(path: Path, tensors: Any, state: Any, peers: Any) -> None:
        """The last one too, whose failure nobody but the end of the run notices."""
        if threading.current_thread() is not threading.main_thread() and state["step"] in (2, 6):
            raise UserError("the quota is used up")
        write(path, tensors, state, peers)

    monkeypatch.setattr(checkpoint_files, "write", refuse_some)
    trainer = Trainer(tiny_recipes.resolve(tiny_recipes.stage1(tmp_path), steps=6, save_in_background=True))
    trainer.train()
    assert steps_kept(trainer) == [6, 4]
    assert caplog.text.count("writing in the background failed (the quota is used up)") == 2


def test_an_error_in_the_background_is_raised_at_the_next_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise UserError("the disk is full")

    trainer = Trainer(tiny_recipes.resolve(tiny_recipes.stage1(tmp_path), save_in_background=True))
    monkeypatch.setattr(checkpoint_files, "write", refuse)
    with pytest.raises(UserError, match="the disk is full"):
        trainer.train()
