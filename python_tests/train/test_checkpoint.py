"""Checkpoints: nothing is lost, nothing damaged is believed, nothing live is half-changed."""

import copy
import os
import pickle
from collections import Counter

import pytest
import torch
from testing.runs import assert_same
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gencore.train import load_checkpoint, save_checkpoint
from gencore.train.state_file import read_state, write_state

pytest.importorskip("safetensors")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.safetensors"


# The file of nested state


def test_every_kind_of_plain_state_comes_back(path):
    state = {
        "numbers": [True, 1, 0.1, float("inf"), float("nan"), None, "ü/ö", 2**70],
        "containers": ({}, [], (), {"": ()}, Counter({3: 2})),
        "keys": {0: "int", "0": "str", None: "none", 0.5: "float"},
        "tensors": {
            0: torch.arange(6).reshape(2, 3),
            "0": torch.tensor(3.0),
            "empty": torch.zeros(0, 4),
            "strided": torch.randn(4, 6)[:, ::2].T,
            "half": torch.randn(3).to(torch.bfloat16),
            "bool": torch.tensor([True, False]),
            "nan": torch.tensor([float("nan"), -0.0]),
        },
    }
    write_state(path, state)
    assert_same(read_state(path), state)


def test_shared_memory_is_stored_once_and_overlap_survives(path):
    big = torch.randn(10_000)
    write_state(path, {"a": big, "tied": big, "view": big[:3], "later": [big]})
    assert path.stat().st_size < 1.2 * big.nbytes
    loaded = read_state(path)
    assert loaded["tied"] is loaded["a"]
    assert torch.equal(loaded["view"], big[:3])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), "a/1 is a object"),
        ({(1, 2): 3}, r"a/1 has the key \(1, 2\)"),
        (torch.eye(2).to_sparse(), "a/1 is a torch.sparse_coo tensor"),
    ],
)
def test_what_cannot_be_stored_is_named_and_the_old_file_stays(path, value, message):
    write_state(path, {"old": 1})
    with pytest.raises(TypeError, match=message):
        write_state(path, {"a": [0, value]})
    assert read_state(path) == {"old": 1}
    assert list(path.parent.iterdir()) == [path]


def test_a_crash_while_writing_leaves_the_old_file(path, monkeypatch):
    write_state(path, {"old": 1})

    def crash(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(OSError, match="disk full"):
        write_state(path, {"new": 2})
    assert read_state(path) == {"old": 1}
    assert list(path.parent.iterdir()) == [path]


def test_a_new_file_has_the_rights_of_any_new_file(path):
    (path.parent / "other").touch()
    write_state(path, {})
    assert path.stat().st_mode == (path.parent / "other").stat().st_mode


# Live objects


OPTIMIZERS = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "amsgrad": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
    "lbfgs": lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=3),
}
SCHEDULERS = {
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 20),
    "multistep": lambda o: lr_scheduler.MultiStepLR(o, [3, 6]),
    "cycle": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=30, cycle_momentum=False),
    "sequence": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o), lr_scheduler.ExponentialLR(o, 0.9)], [4]
    ),
}


class Training:
    def __init__(self, optimizer="adam", scheduler="cosine", width=4, rate_factor=1.0):
        self.model = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, 1))
        self.ema = AveragedModel(
            self.model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True
        )
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.optimizer.param_groups[0]["lr"] *= rate_factor
        self.scheduler = SCHEDULERS[scheduler](self.optimizer)
        self.generator = torch.Generator().manual_seed(3)
        self.state = {
            "model": self.model,
            "ema": self.ema,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "generator": self.generator,
        }

    def run(self, steps):
        for _ in range(steps):
            x = torch.randn(8, 3, generator=self.generator) + 0.1 * torch.randn(8, 3)

            def loss(x=x):
                self.optimizer.zero_grad()
                value = (self.model(x) - x.sum(1, keepdim=True)).square().mean()
                value.backward()
                return value

            self.optimizer.step(loss)
            self.scheduler.step()
            self.ema.update_parameters(self.model)

    def snapshot(self):
        states = {
            name: obj.get_state() if isinstance(obj, torch.Generator) else obj.state_dict()
            for name, obj in self.state.items()
        }
        return copy.deepcopy({**states, "random": torch.get_rng_state()})


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*:UserWarning")
@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")
def test_training_goes_on_bit_for_bit(path, optimizer, scheduler):
    torch.manual_seed(0)
    straight = Training(optimizer, scheduler)
    straight.run(5)
    save_checkpoint(path, straight.state, step=5)
    straight.run(5)

    torch.manual_seed(1)
    resumed = Training(optimizer, scheduler)
    resumed.run(1)
    assert load_checkpoint(path, resumed.state) == 5
    resumed.run(5)
    assert_same(resumed.snapshot(), straight.snapshot())


@pytest.mark.parametrize("scheduler", [s for s in SCHEDULERS if s != "cycle"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*:UserWarning")
@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")
def test_a_tuned_learning_rate_is_the_one_of_a_run_that_always_had_it(path, optimizer, scheduler):
    torch.manual_seed(0)
    saved = Training(optimizer, scheduler)
    saved.run(5)
    save_checkpoint(path, saved.state, step=5, recipe={"rate": 1.0})

    def load(rate, rate_factor):
        training = Training(optimizer, scheduler, rate_factor=rate_factor)
        tunable = frozenset({"rate"})
        load_checkpoint(path, training.state, recipe={"rate": rate}, tunable=tunable)
        return training

    always, tuned = Training(optimizer, scheduler, rate_factor=0.1), load(0.1, 0.1)
    always.run(5)
    for _ in range(8):
        (rate,) = tuned.scheduler.get_last_lr()
        assert rate == always.scheduler.get_last_lr()[0] == tuned.optimizer.param_groups[0]["lr"]
        always.run(1)
        tuned.run(1)
    tuned = load(0.1, 0.1)
    assert_same(tuned.model.state_dict(), saved.model.state_dict())
    assert_same(tuned.optimizer.state_dict()["state"], saved.optimizer.state_dict()["state"])
    # What did not change comes from the file, whatever was built.
    kept = load(1.0, 0.1)
    assert_same(kept.optimizer.state_dict(), saved.optimizer.state_dict())
    assert_same(kept.scheduler.state_dict(), saved.scheduler.state_dict())


def test_every_truncation_and_flipped_bit_is_found_and_changes_nothing(path):
    training = Training()
    training.run(2)
    save_checkpoint(path, training.state, step=2)
    whole = path.read_bytes()
    training.run(1)
    before = training.snapshot()
    rng = torch.Generator().manual_seed(0)
    cuts = [0, 1, 7, 8, 9, len(whole) // 2, len(whole) - 1]
    places = torch.randint(len(whole) * 8, (300,), generator=rng).tolist()
    damaged = [whole[:cut] for cut in cuts] + [whole + b"\0"]
    for place in [*range(64), *places]:  # the first 8 bytes are the header's length
        data = bytearray(whole)
        data[place // 8] ^= 1 << place % 8
        damaged.append(bytes(data))
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"checkpoint\.safetensors"):
            load_checkpoint(path, training.state)
    assert_same(training.snapshot(), before)


def test_files_of_other_kinds(path):
    state = {"model": nn.Linear(1, 1)}
    with pytest.raises(FileNotFoundError, match=r"no checkpoint .*checkpoint\.safetensors"):
        load_checkpoint(path, state)
    path.write_bytes(pickle.dumps({"model": 1}))
    with pytest.raises(ValueError, match="no checkpoint"):
        load_checkpoint(path, state)
    write_state(path, {"weights": torch.zeros(2)})
    with pytest.raises(ValueError, match="no checkpoint of a run"):
        load_checkpoint(path, state)


def test_a_later_version_of_the_format_is_named(path, monkeypatch):
    monkeypatch.setattr("gencore.train.state_file._VERSION", 2)
    write_state(path, {})
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"has version 2 .* reads version 1"):
        read_state(path)


class Buffer:
    """Takes over what it can before it refuses a size that is not its own."""

    def __init__(self, size):
        self.size, self.content = size, 0.0

    def state_dict(self):
        return {"content": self.content, "size": self.size}

    def load_state_dict(self, state):
        self.content = state["content"]
        if state["size"] != self.size:
            raise KeyError("size")


def test_other_objects_are_refused_before_anything_changes(path):
    torch.manual_seed(0)
    saved = Training()
    saved.run(2)
    save_checkpoint(path, saved.state, step=2)

    def refused(training, message, extra=None):
        before = training.snapshot()
        with pytest.raises(ValueError, match=message):
            load_checkpoint(path, {**training.state, **(extra or {})})
        assert_same(training.snapshot(), before)

    refused(Training(width=5), r"model.0.weight is torch.float32 \(4, 3\) in the file, .*\(5, 3\)")
    refused(Training("momentum"), "optimizer is from another optimiser: .* betas")
    refused(Training(), "expected model, ema, .* more", {"more": nn.Linear(1, 1)})
    deeper = Training()
    deeper.model.append(nn.Linear(1, 1))
    refused(deeper, r"other entries than the module here: 3\.bias, 3\.weight")
    fewer = Training()
    fewer.optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))]})
    refused(fewer, "other parameter groups")

    save_checkpoint(path, {**saved.state, "buffer": Buffer(1)}, step=2)
    buffer = Buffer(2)
    buffer.content = 7.0
    refused(Training(), "buffer does not take the state in the file", {"buffer": buffer})
    assert buffer.content == 7.0


def test_the_recipe_must_be_the_same_but_for_what_may_change(path):
    model = nn.Linear(1, 1)
    save_checkpoint(path, {"m": model}, step=1, recipe={"recipe": "a", "steps": 5, "rate": 0.1})

    def load(**recipe):
        return load_checkpoint(path, {"m": model}, recipe=recipe, changeable=frozenset({"steps"}))

    assert load(recipe="a", steps=9, rate=0.1) == 1
    with pytest.raises(ValueError, match=r"rate is 0\.1 in the checkpoint, 0\.2 here"):
        load(recipe="a", steps=5, rate=0.2)
    with pytest.raises(ValueError, match="recipe is 'a' in the checkpoint, 'b' here"):
        load(recipe="b", steps=5, rate=0.1)
    with pytest.raises(ValueError, match="only the checkpoint has the field rate"):
        load(recipe="a", steps=5)
    with pytest.raises(ValueError, match="only the recipe has the field more"):
        load(recipe="a", steps=5, rate=0.1, more=1)
