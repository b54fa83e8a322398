"""The experiment in small: its grid, its intervals, and cells that are trained for real and reported."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from example_files import training_plan
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve
from small import PROJECT

from benchmarks.experiment import report, series
from benchmarks.experiment.__main__ import GROUPS
from benchmarks.experiment.cells import SETTINGS, Cell, Setting, grid, trials
from benchmarks.experiment.data import Data, fewer_labels, read
from benchmarks.experiment.intervals import Floats, Resampled, auc_and_ks, draw, mean
from benchmarks.experiment.predictions import read as read_cell
from benchmarks.experiment.runs import Runner
from lbsf.baselines.sequences import BACKBONES
from lbsf.config import load_config
from lbsf.config.models import Config


def test_every_cell_has_a_name_of_its_own_and_every_series_its_seeds() -> None:
    chosen = Setting(0.0007, "hidden")
    cells = grid((1, 2, 3), BACKBONES, GROUPS, {"gru": chosen}, usual_labels=400, most_labels=1_600)
    assert len({cell.name for cell in cells}) == len(cells)
    for days in (45, 90, 180):
        assert {cell.seed for cell in cells if cell.series == f"lbsf-{days}d"} == {1, 2, 3}
    assert {cell.setting for cell in cells if cell.network == "gru"} == {chosen}
    # The next of kin's, where a network is not trained with several.
    assert {cell.setting for cell in cells if cell.network == "mamba2"} == {chosen}
    # As many labels as there are users, and pretraining where they are no more than usual.
    assert {cell.labels for cell in cells} == {None, 25, 100, 1_600}
    assert {cell.labels for cell in cells if cell.pretrained == "visits"} == {None, 25, 100}
    assert not [cell for cell in grid((1,), (), ("labels",), {}, 400, 1_599) if cell.labels == 1_600]
    tried = trials(("mamba2", "fnet", "gru"), 2)
    assert set(tried) == {"lbsf", "gru", "transformer"}
    assert all([cell.setting for cell in cells] == list(SETTINGS) for cells in tried.values())
    assert all(cell.unfolded for cell in cells if cell.network in BACKBONES)
    assert {cell.without for cell in cells} >= {"amount", "merchant_name", None}
    # What a field is worth is less than what one seed's weights change.
    assert {cell.seed for cell in cells if cell.without == "channel"} == {1, 2, 3}
    assert {cell.seed for cell in cells if cell.network == "lbsf" and cell.unfolded} == {1, 2, 3}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 12))
def test_auc_and_ks_agree_with_scikit_learn_on_every_resample(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    label = np.r_[0.0, 1.0, rng.integers(0, 2, 40)]
    score = rng.integers(0, levels, len(label)) / levels  # many ties
    counts = draw(label, samples=5, seed=seed)
    auc, ks = auc_and_ks(label, score, counts)
    for place, drawn in enumerate(counts):
        false_positive, true_positive, _ = roc_curve(label, score, sample_weight=drawn, drop_intermediate=False)
        found = (auc.value, ks.value) if place == 0 else (auc.samples[place - 1], ks.samples[place - 1])
        assert found[0] == pytest.approx(roc_auc_score(label, score, sample_weight=drawn))
        assert found[1] == pytest.approx(np.abs(true_positive - false_positive).max())


def test_a_paired_difference_is_narrower_than_the_figures_themselves() -> None:
    rng = np.random.default_rng(1)
    label = (rng.random(2_000) < 0.2).astype(float)
    one = label + rng.normal(0, 2, 2_000)
    counts = draw(label)
    first, second = (auc_and_ks(label, score, counts)[0] for score in (one, one + rng.normal(0, 0.2, 2_000)))
    difference, own = first.minus(second), first.interval
    assert difference.high - difference.low < 0.5 * (own.high - own.low)
    same = first.minus(first)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert mean([first, second]).value == pytest.approx((first.value + second.value) / 2)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    root = tmp_path_factory.mktemp("experiment")
    plan = training_plan(root, users=160, epochs=1)
    (root / "experiment").mkdir()
    config = load_config(PROJECT / "conf/local.yaml", [f"storage.root={root}"])
    config = Config(**{**dict(config), "model": plan.model, "fold": plan.fold, "training": plan.training})
    config = config.model_copy(update={"training": plan.training.model_copy(update={"ranks": 1})})
    return Runner(config, Data(root, plan.splits, plan.splits["train"], np.zeros(0)), at_once=2)


CELLS = (
    Cell("lbsf", 180, 1),
    Cell("lbsf", 180, 2),
    Cell("lbsf", 45, 1),
    Cell("gru", 180, 1, unfolded=True),
    Cell("lightgbm", 180, 2),
    Cell("fusion", 180, 2),
    Cell("lbsf", 180, 1, labels=40),
    Cell("lbsf", 180, 1, labels=40, pretrained="visits"),
    Cell("lightgbm", 180, 1, labels=40),
    Cell("lbsf", 180, 2, taught=True),
    Cell("lbsf", 180, 1, labels=40, taught=True, pretrained="teacher"),
)


def test_cells_are_trained_once_and_reported(runner: Runner, tmp_path: Path) -> None:
    assert runner.train(CELLS) == []
    results = {cell: runner.result(cell) for cell in CELLS}
    assert all(results.values())
    written = {path: path.stat().st_mtime_ns for path in runner.folder.rglob("*.npz")}
    assert runner.train(CELLS) == []
    assert {path: path.stat().st_mtime_ns for path in runner.folder.rglob("*.npz")} == written

    found = series.gather((cell, runner.folder / cell.name, results[cell] or {}) for cell in CELLS)
    text = report.write(found, 0.9, tmp_path)
    page = (tmp_path / "experiments.md").read_text(encoding="utf-8")
    assert text in page and report.write(found, 0.9, tmp_path) == text
    assert (tmp_path / "experiments.md").read_text(encoding="utf-8") == page
    label, first = _out_of_time(runner, CELLS[0])
    _, second = _out_of_time(runner, CELLS[1])
    single = np.mean([roc_auc_score(label, first), roc_auc_score(label, second)])
    together = roc_auc_score(label, np.log(first / (1 - first)) + np.log(second / (1 - second)))
    assert f"| lbsf | 2 | {together:.4f} (" in page and f"{together - single:+.4f} (" in page
    assert "| lbsf | 2 |  |" not in page and f"{single:.4f} (" in page
    assert {path.name for path in (tmp_path / "images").iterdir()} == {
        "experiment_auc.png",
        "experiment_epochs.png",
        "experiment_labels.png",
    }


def _out_of_time(runner: Runner, cell: Cell) -> tuple[Floats, Floats]:
    """Labels and probabilities."""
    with np.load(runner.folder / cell.name / "out_of_time.npz", allow_pickle=False) as saved:
        return saved["label"], saved["probability"]


def test_a_network_goes_on_with_the_setting_that_validation_prefers(runner: Runner) -> None:
    cells = [Cell("lbsf", 180, 1), Cell("lbsf", 180, 1, setting=Setting(1e-7, "linear"))]
    runner.train(cells)
    assert runner.choose_settings({"lbsf": cells, "gru": []}) == {"lbsf": cells[0].setting}
    assert runner.choose_settings({"gru": [Cell("gru", 180, 9, unfolded=True)]}) == {}


def test_pretrained_weights_have_the_cell_s_head_and_are_made_again_with_other_settings(runner: Runner) -> None:
    """Weights of another head would not fit."""
    cell = Cell("lbsf", 180, 1, labels=40, pretrained="visits", setting=Setting(0.003, "hidden"))
    weights = runner.folder / "pretrained-seed1-hidden/model"
    found = []
    for epochs in (1, 1, 2):
        changed = {"pretraining": runner.config.pretraining.model_copy(update={"epochs": epochs})}
        assert Runner(runner.config.model_copy(update=changed), runner.data, at_once=1).train([cell]) == []
        found.append(weights.stat().st_mtime_ns)
    assert found[0] == found[1] != found[2]


def test_a_cell_is_trained_by_as_many_ranks_as_configured(runner: Runner) -> None:
    """As conf/experiment_gpu.yaml asks for."""
    training = runner.config.training.model_copy(update={"ranks": 2})
    by_two = Runner(runner.config.model_copy(update={"training": training}), runner.data, at_once=1)
    cell = Cell("lbsf", 180, 6)
    assert by_two.train([cell]) == []
    result = by_two.result(cell)
    assert result is not None and len(result["epochs"]) == training.epochs
    log = (by_two.folder / cell.name / "log.txt").read_text(encoding="utf-8")
    assert json.loads(log[log.index('{"event": "start"') :].splitlines()[0])["ranks"] == 2


def test_a_cell_of_other_settings_is_trained_again(runner: Runner) -> None:
    runner.train(CELLS[:1])
    training = runner.config.training.model_copy(update={"epochs": 2})
    other = Runner(runner.config.model_copy(update={"training": training}), runner.data, at_once=1)
    assert runner.result(CELLS[0]) is not None
    assert other.result(CELLS[0]) is None


def test_a_cell_that_fails_is_named_and_leaves_no_result(runner: Runner, capsys: pytest.CaptureFixture[str]) -> None:
    training = runner.config.training.model_copy(update={"learning_rate": 1e30})
    config = runner.config.model_copy(update={"training": training})
    broken = Runner(config, runner.data._replace(splits={**runner.data.splits, "train": _gone(runner)}), at_once=1)
    cell = Cell("lbsf", 180, 5)
    assert broken.train([cell]) == [cell]
    assert broken.result(cell) is None
    assert cell.name in "".join(capsys.readouterr())


def test_smaller_draws_of_labels_are_part_of_larger_ones(runner: Runner) -> None:
    import pyarrow.parquet as pq

    drawn = [set(pq.read_table(fewer_labels(runner.data, n, seed=3).files[0])["user_id"].to_pylist()) for n in (20, 90)]
    assert [len(users) for users in drawn] == [20, 90]
    assert drawn[0] < drawn[1]


@pytest.mark.parametrize(("labels", "times"), [(40, 4), (20, 4), (100, 1)])
def test_an_epoch_shows_few_labels_to_a_network_several_times(runner: Runner, labels: int, times: int) -> None:
    import pyarrow.parquet as pq

    users = []
    for network in ("lbsf", "lightgbm"):
        split = runner.plan(Cell(network, 180, 1, labels=labels)).splits["train"]
        users.append(Counter(pq.read_table(split.files[0])["user_id"].to_pylist()))
        assert split.users == users[-1].total()
    assert len(users[0]) == labels and set(users[0]) == set(users[1])
    assert set(users[0].values()) == {times} and set(users[1].values()) == {1}


def test_a_result_counts_each_label_once(runner: Runner) -> None:
    cells = [cell for cell in CELLS if cell.labels]
    runner.train(cells)
    assert {(runner.result(cell) or {})["labels"] for cell in cells} == {40}


def test_cells_that_draw_the_same_users_at_once_get_in_nobodys_way(runner: Runner) -> None:
    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(lambda seed: fewer_labels(runner.data, 50, seed), [7, 8] * 16))
    assert {split.users for split in drawn} == {50}
    assert not list((runner.data.root / "experiment").glob("*.new"))


def test_data_are_read_by_address_with_the_usual_number_of_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"user_id": f"u{n}", "label": n % 2, "split": "train" if n < 40 else "out_of_time"} for n in range(60)]
    write_deltalake(str(tmp_path / "root/tables/examples"), pa.Table.from_pylist(rows), partition_by=["split"])
    truth = [{"user_id": f"u{n}", "default_probability": n / 60} for n in reversed(range(60))]
    write_deltalake(str(tmp_path / "root/tables/synthetic_truth"), pa.Table.from_pylist(truth))
    (tmp_path / "root/experiment").mkdir()
    monkeypatch.chdir(tmp_path)
    data = read(Path("root"), labels=30)
    assert (data.splits["train"].users, data.every_train.users, data.splits["out_of_time"].users) == (30, 40, 20)
    assert all(Path(file).is_absolute() for split in data.splits.values() for file in split.files)
    assert sorted(data.reachable) == [n / 60 for n in range(40, 60)]
    assert read(Path("root"), labels=100).splits["train"].users == 40


def test_a_part_is_compared_with_the_whole_of_its_own_seed(runner: Runner) -> None:
    cells = [*CELLS[:2], Cell("lbsf", 180, 2, relational=False)]
    runner.train(cells)
    found = series.gather((cell, runner.folder / cell.name, runner.result(cell) or {}) for cell in cells)
    label, whole = _out_of_time(runner, cells[1])
    _, part = _out_of_time(runner, cells[2])
    difference = found["lbsf-180d-unrelated"].ahead_of(found["lbsf-180d"])
    assert difference.value == pytest.approx(roc_auc_score(label, part) - roc_auc_score(label, whole))


def test_cells_of_other_users_are_not_compared(tmp_path: Path) -> None:
    for name, label in (("one", [0, 1]), ("other", [1, 0])):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "test.npz", label=label, probability=[0.1, 0.2])
    label, probability = read_cell(tmp_path / "one", "test")
    assert (label.tolist(), probability.tolist()) == ([0, 1], [0.1, 0.2])
    with pytest.raises(SystemExit, match="other: test has other users"):
        read_cell(tmp_path / "other", "test", label)


def test_series_are_means_over_seeds() -> None:
    parts = [Resampled(0.7, np.full(10, 0.7)), Resampled(0.8, np.full(10, 0.8))]
    assert mean(parts).value == pytest.approx(0.75)
    assert json.loads(json.dumps(Cell("lbsf", 90, 2).describe()))["days"] == 90


def _gone(runner: Runner):  # type: ignore[no-untyped-def]
    split = runner.data.splits["train"]
    return split.model_copy(update={"files": ("/nowhere/train.parquet",)})
