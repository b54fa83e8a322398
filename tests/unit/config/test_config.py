"""Configuration: every committed file loads, and a bad one is refused in one clear line."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from lbsf.config import Config, load_config
from lbsf.config.loader import read_yaml
from lbsf.config.models import FoldConfig
from lbsf.errors import ConfigurationError

CONF = Path(__file__).resolve().parents[3] / "conf"
BASE = CONF / "base.yaml"
FOLD = load_config(BASE).fold.model_dump()


def refusal(path: Path, *overrides: str) -> str:
    """The one line with which a configuration is refused."""
    with pytest.raises(ConfigurationError) as caught:
        load_config(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.name)
def test_each_committed_configuration_loads(path: Path) -> None:
    assert isinstance(load_config(path), Config)


def test_base_states_every_value() -> None:
    """No value hides as a default in the code: base.yaml is the whole truth."""
    values = read_yaml(BASE)
    for section, field in Config.model_fields.items():
        assert isinstance(field.annotation, type)
        assert issubclass(field.annotation, BaseModel)
        assert set(values[section]) == set(field.annotation.model_fields)
        assert all(value.is_required() for value in field.annotation.model_fields.values())


def test_the_named_file_lies_over_base_and_set_over_both(tmp_path: Path) -> None:
    path = write(
        tmp_path / "own.yaml", f"extends: {BASE}\nfold: {{window_days: 90}}\nspark: {{shuffle_partitions: 3}}\n"
    )
    config = load_config(path, ["fold.window_days=45", "storage.root=/data/x"])
    assert config.fold.window_days == 45  # --set over the file
    assert config.spark.shuffle_partitions == 3  # the file over base.yaml
    assert config.fold.max_merchants == FOLD["max_merchants"]  # base.yaml's, in a section that the file touches
    assert config.storage.root == "/data/x"


def test_a_mapping_is_replaced_whole_not_merged() -> None:
    """Bands of two configurations must never mix."""
    config = load_config(BASE, ["scoring.bands={low: 0.1, high: 1.0}"])
    assert config.scoring.bands == {"low": 0.1, "high": 1.0}


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("fold.windowdays=9", "fold.windowdays: Extra inputs are not permitted (unknown key)"),
        ("folds.window_days=9", "folds: Extra inputs are not permitted (unknown key)"),
        ("fold.window_days=0", "fold.window_days: Input should be greater than 0"),
        ("fold.window_days=many", "fold.window_days: Input should be a valid integer"),
        ("model.heads=7", "model: width must be a multiple of heads"),
        ("spark.driver_memory=lots", "spark.driver_memory: String should match pattern"),
        # These reach SQL or a command line.
        ("storage.database=a;drop", "storage.database: String should match pattern"),
        ("training.hosts='x;rm'", "training.hosts: String should match pattern"),
        ("scoring.bands={A: 0.2, B: 0.1, C: 1.0}", "scoring: band limits must rise and end at 1.0"),
        ("scoring.bands={A: 0.2, thin: 1.0}", "scoring: thin cannot be a band's name"),
        ("scoring.bands={A: 0.2, B: 0.9}", "scoring: band limits must rise and end at 1.0"),
        ("synthetic.observation_shares=[1.0]", "observation_days and observation_shares differ in length"),
        ("synthetic.observation_shares=[0.5, 0.4]", "observation_shares must sum to 1"),
        ("synthetic.days=200", "a label would mature after the last simulated day"),
        ("ingest.max_refused_share=1.5", "ingest.max_refused_share: Input should be less than or equal to 1"),
        ("ingest.max_refused_share=.nan", "ingest.max_refused_share: "),
        ("ingest.currencies=[euro]", "ingest.currencies.0: String should match pattern"),
        ("training.learning_rate=.inf", "training.learning_rate: Input should be a finite number"),
        ("training.seed=2147483648", "training.seed: Input should be less than or equal to 2147483647"),
        ("training.rank_timeout_seconds=0", "training.rank_timeout_seconds: Input should be greater than 0"),
        ("fold.window_days=1000000", "fold.window_days: Input should be less than or equal to 36525"),
    ],
)
def test_a_bad_key_or_value_is_named(override: str, says: str) -> None:
    message = refusal(BASE, override)
    assert message.startswith(f"{BASE}: ")
    assert says in message


def numbers(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where numbers stand in plain values."""
    if isinstance(value, dict | list):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from numbers(one, (*path, key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path


@pytest.mark.parametrize("odd", [float("inf"), float("nan"), -1e300, 10**30])
def test_no_number_may_be_infinite_or_none_or_beyond_all_measure(odd: float) -> None:
    values = read_yaml(BASE)
    where = list(numbers(values))
    assert len(where) > 90
    # Of these any finite size above 0 can be meant.
    sizes = {"max_amount", "learning_rate", "gradient_clip", "max_score_psi", "max_input_psi"}
    sizes |= {"calibration", "calibration_slope", "retention_hours", "compact_files"}
    taken = []
    for path in where:
        bad = copy.deepcopy(values)
        place: Any = bad
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = odd
        try:
            Config.model_validate(bad)
        except ValidationError:
            continue
        taken.append(path)
    finite = odd == 10**30
    assert [path for path in taken if not (finite and sizes & set(path))] == []


def test_every_refused_key_is_named_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.yaml", f"extends: {BASE}\nfold: {{window_days: -1, caps: 3}}\nmodell: {{width: 8}}\n")
    message = refusal(path)
    assert all(key in message for key in ("fold.window_days", "fold.caps", "modell"))


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    values = read_yaml(BASE)
    del values["fold"]["window_days"]
    path = write(tmp_path / "short.yaml", yaml.safe_dump(values))
    assert "fold.window_days: Field required" in refusal(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.yaml") == f"{tmp_path / 'none.yaml'}: no such file"
    child = write(tmp_path / "child.yaml", "extends: parent.yaml\n")
    assert refusal(child) == f"{tmp_path / 'parent.yaml'}: no such file"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fold: {window_days: 1\n", "cannot be read as YAML"),
        ("- a\n- b\n", "expected `key: value` lines"),
        ("fold: {window_days: 1}\nfold: {window_days: 2}\n", "key fold stands twice at line 2, column 1"),
        ("fold:\n  window_days: 1\n  'window_days': 2\n", "key window_days stands twice at line 3, column 3"),
        ("scoring:\n  bands: {A: 0.1, B: 1.0, A: 0.2}\n", "key A stands twice at line 2"),
        ("ingest: {earliest_paid_on: 2025-02-30}\n", "cannot be read as YAML: day is out of range for month"),
        ("", "expected `key: value` lines"),
    ],
)
def test_a_file_that_is_no_mapping_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path / "odd.yaml", text)
    message = refusal(path)
    assert message.startswith(f"{path}: ")
    assert says in message


@pytest.mark.parametrize(("text", "encoding", "byte"), [("# Zürich\n", "latin-1", 4), ("fold: {}\n", "utf-16", 1)])
def test_a_file_that_is_not_utf_8_is_named(tmp_path: Path, text: str, encoding: str, byte: int) -> None:
    path = tmp_path / "odd.yaml"
    path.write_bytes(text.encode(encoding))
    assert refusal(path) == f"{path}: byte {byte} is not UTF-8: save the file with the encoding UTF-8"


def test_a_merged_mapping_may_lay_a_key_over_its_anchor(tmp_path: Path) -> None:
    path = write(tmp_path / "anchor.yaml", "one: &one {a: 1, b: 2}\ntwo: {<<: *one, b: 3}\n")
    assert read_yaml(path)["two"] == {"a": 1, "b": 3}


def test_a_section_that_is_no_mapping_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "flat.yaml", f"extends: {BASE}\nfold: 180\n")
    assert "fold: " in refusal(path)


def test_files_that_extend_each_other_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "extends: b.yaml\n")
    write(tmp_path / "b.yaml", "extends: a.yaml\n")
    assert refusal(tmp_path / "a.yaml").endswith("a.yaml: extends itself")
    own = write(tmp_path / "own.yaml", "extends: own.yaml\n")
    assert refusal(own).endswith("own.yaml: extends itself")


@pytest.mark.parametrize("override", ["fold", "fold=1", "fold.=1", ".window_days=1", "fold.window_days", "=3"])
def test_a_misspelt_override_is_shown(override: str) -> None:
    assert refusal(BASE, override) == f"--set {override}: expected section.key=value"


@pytest.mark.parametrize("override", ["storage.root=[a", "scoring.bands={A: 0.1, A: 1.0}", "x.y=2025-02-30"])
def test_an_override_that_is_no_yaml_is_shown(override: str) -> None:
    assert refusal(BASE, override) == f"--set {override}: the value is not YAML"


def test_a_number_sign_in_an_override_begins_no_comment() -> None:
    root = "/data/bank #1 it's 100% ü"
    assert load_config(BASE, [f"storage.root={root}"]).storage.root == root
    assert load_config(BASE, ["storage.root='/data/bank #1' # the old one"]).storage.root == "/data/bank #1"
    assert load_config(BASE, ["fold.window_days=45 # days"]).fold.window_days == 45


@pytest.mark.parametrize("part", ["*", "?", "{", "}", "[", "]", "\\", "^", "|", "%41", "%c3"])
def test_a_folder_that_some_part_would_misread_is_refused(part: str) -> None:
    says = refusal(BASE, f"storage.root=/data/bank{part}x")
    assert says.startswith(
        f"{BASE}: storage.root: {f'/data/bank{part}x'!r} holds {part!r}, which Spark, Delta or MLflow"
    )


def test_a_retention_that_would_remove_running_jobs_files_is_refused() -> None:
    assert "maintenance.retention_hours: Input should be greater than or equal to 24" in refusal(
        BASE, "maintenance.retention_hours=23"
    )


def test_the_folder_above_a_relative_root_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a[b]").mkdir()
    monkeypatch.chdir(tmp_path / "a[b]")
    assert "holds '[', which Spark" in refusal(BASE)


def test_configuration_is_frozen() -> None:
    config = load_config(BASE)
    with pytest.raises(ValidationError):
        config.fold = config.fold  # type: ignore[misc]
    with pytest.raises(ValidationError):
        config.fold.window_days = 45  # type: ignore[misc]


NAMED_IN_SPEC = [name for name in FOLD if name not in ("row_group_users", "through_spark")]


@given(name=st.sampled_from(NAMED_IN_SPEC), added=st.integers(1, 96))
def test_each_value_that_changes_a_fold_changes_its_spec(name: str, added: int) -> None:
    changed = FoldConfig(**{**FOLD, name: FOLD[name] + added})
    assert changed.spec != FoldConfig(**FOLD).spec


@given(through_spark=st.booleans(), row_group_users=st.integers(1, 5000))
def test_the_layout_of_files_does_not_change_the_spec(through_spark: bool, row_group_users: int) -> None:
    laid_out = FoldConfig(**{**FOLD, "through_spark": through_spark, "row_group_users": row_group_users})
    assert laid_out.spec == FoldConfig(**FOLD).spec


@pytest.mark.parametrize(
    "root",
    ["s3a://bucket/lbsf", "S3://bucket", "abfss://data@account/x", "hdfs:/x", "gs://x", "file:/x", "file://host/x"],
)
def test_a_storage_that_is_not_shown_as_files_is_refused(root: str) -> None:
    message = refusal(BASE, f"storage.root={root}")
    assert f"storage.root: storage of the kind {root.split(':', maxsplit=1)[0]}: is not supported: mount it" in message


@pytest.mark.parametrize("root", ["dbfs:/mnt/lbsf", "file:///data", "/data/a:b", "warehouse", "/Volumes/main/lbsf"])
def test_a_storage_that_is_shown_as_files_stays_as_it_is_written(root: str) -> None:
    assert load_config(BASE, [f"storage.root={root}"]).storage.root == root


def test_a_job_on_such_a_storage_ends_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from jobs import report

    base = Path("conf/local.yaml").resolve()
    monkeypatch.chdir(tmp_path)
    assert report.main(["--conf", str(base), "--set", "storage.root=s3a://bucket/x", "--as-of", "2025-07-01"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
