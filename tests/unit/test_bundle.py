"""databricks.yml: every file, job, argument, configuration and version that it names is there."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import re
import shutil
import subprocess
import sys
import zipfile
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

import lbsf
from jobs.common import Job, run_main
from lbsf.config import Config, load_config

PROJECT = Path(__file__).resolve().parents[2]
BUNDLE: dict[str, Any] = yaml.safe_load((PROJECT / "databricks.yml").read_text(encoding="utf-8"))
TARGETS = sorted(BUNDLE["targets"])
INCLUDED = sorted(path for pattern in BUNDLE["include"] for path in PROJECT.glob(pattern))
PINNED = dict(line.split("==") for line in (PROJECT / "conf/environment/main.txt").read_text(encoding="utf-8").split())
# What the platform fills in when it deploys, and when a run starts.
PLATFORM = {
    "workspace.file_path": str(PROJECT),
    "workspace.current_user.short_name": "ann_lee",
    "workspace.current_user.userName": "ann.lee@example.org",
    "bundle.name": BUNDLE["bundle"]["name"],
    "job.trigger.time.iso_date": "2025-08-01",
}
# The keys of the bundle's schema that this product uses: a misspelt key would be passed over in silence.
TARGET_KEYS = {"mode", "default", "variables", "workspace"}
JOB_KEYS = {
    "name", "description", "schedule", "parameters", "max_concurrent_runs", "queue", "timeout_seconds",
    "email_notifications", "webhook_notifications", "job_clusters", "tasks",
}  # fmt: skip
TASK_KEYS = {
    "task_key", "depends_on", "job_cluster_key", "spark_python_task", "libraries", "max_retries",
    "min_retry_interval_millis", "timeout_seconds",
}  # fmt: skip
CLUSTER_KEYS = {
    "spark_version", "node_type_id", "data_security_mode", "autoscale", "num_workers", "spark_conf", "custom_tags",
}  # fmt: skip


def values_of(target: str) -> dict[str, Any]:
    """Everything that a reference may name in a target. KeyError for a variable that has no value."""
    chosen = BUNDLE["targets"][target]["variables"]
    assert set(chosen) <= set(BUNDLE["variables"])
    values: dict[str, Any] = {**PLATFORM, "bundle.target": target}
    for name, variable in BUNDLE["variables"].items():
        values[f"var.{name}"] = resolve(chosen[name] if name in chosen else variable["default"], values)
    return values


def resolve(value: Any, values: dict[str, Any]) -> Any:
    """Replaces ${...} and {{...}}; an unknown reference is a KeyError."""
    if isinstance(value, dict):
        return {key: resolve(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, values) for item in value]
    if not isinstance(value, str):
        return value
    whole = re.fullmatch(r"\$\{([\w.]+)\}", value)
    if whole:
        return values[whole[1]]
    return re.sub(r"\$\{([\w.]+)\}|\{\{([\w.]+)\}\}", lambda match: str(values[match[1] or match[2]]), value)


def jobs_of(target: str) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Each job of a target: the file that declares it, and its settings with all references replaced."""
    found = {}
    for path in INCLUDED:
        for key, job in yaml.safe_load(path.read_text(encoding="utf-8"))["resources"]["jobs"].items():
            values = values_of(target)
            parameters = resolve(job.get("parameters", []), values)
            values |= {f"job.parameters.{item['name']}": item["default"] for item in parameters}
            found[key] = (path, resolve(job, values))
    return found


TASKS = [
    pytest.param(target, path, task, id=f"{target}-{key}-{task['task_key']}")
    for target in TARGETS
    for key, (path, job) in jobs_of(target).items()
    for task in job["tasks"]
]
JOBS = [
    pytest.param(job, id=f"{target}-{key}") for target in TARGETS for key, (_, job) in sorted(jobs_of(target).items())
]


def parsed(task: dict[str, Any], path: Path) -> tuple[Config, dict[str, Any]]:
    """The configuration and the own arguments that the job itself reads from a task's parameters."""
    module = importlib.import_module(f"jobs.{Path(task['spark_python_task']['python_file']).stem}")
    seen: list[tuple[Config, dict[str, Any]]] = []

    def record(job: Job, **own: Any) -> None:
        inspect.signature(module.run).bind(job, **own)
        seen.append((job.config, own))

    assert run_main(module._add_arguments, record, task["spark_python_task"]["parameters"]) == 0
    return seen[0]


def test_the_targets_and_the_included_files() -> None:
    assert TARGETS == ["dev", "prod"]
    assert {name: BUNDLE["targets"][name]["mode"] for name in TARGETS} == {"dev": "development", "prod": "production"}
    assert [name for name in TARGETS if BUNDLE["targets"][name].get("default")] == ["dev"]
    assert all(set(target) <= TARGET_KEYS for target in BUNDLE["targets"].values())
    assert sorted((PROJECT / "conf/resources").iterdir()) == INCLUDED
    assert sorted(jobs_of("prod")) == ["maintenance", "nightly", "training"]


@pytest.mark.parametrize("target", TARGETS)
def test_each_variable_is_used(target: str) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in INCLUDED)
    assert set(re.findall(r"\$\{var\.(\w+)\}", text)) == set(BUNDLE["variables"])
    assert values_of(target)


@pytest.mark.parametrize("target", TARGETS)
def test_each_target_names_files_that_exist(target: str) -> None:
    values = values_of(target)
    for name in ("conf", "payments_source", "labels_source"):
        assert (PROJECT / values[f"var.{name}"]).is_file(), values[f"var.{name}"]


@pytest.mark.parametrize(("target", "path", "task"), TASKS)
def test_a_task_names_a_job_that_takes_its_arguments(target: str, path: Path, task: dict[str, Any]) -> None:
    assert set(task) <= TASK_KEYS
    file = (path.parent / task["spark_python_task"]["python_file"]).resolve()
    assert file.is_file()
    assert file.parent == PROJECT / "jobs"
    assert file.stem == task["task_key"]
    assert callable(importlib.import_module(f"jobs.{file.stem}").main)
    config, own = parsed(task, path)
    values = values_of(target)
    assert config.storage.root == values["var.storage_root"]
    assert config.storage.database == values["var.database"]
    if "as_of" in own:
        assert own["as_of"] in (date(2025, 8, 1), [date(2025, 8, 1)])
    if "source" in own:
        assert Path(own["source"]).is_file()
    if "views" in own:
        assert list(own["views"].glob("*.sql"))
    if task["task_key"] in {
        "train_model", "validate_model", "promote_model", "nightly", "maintain_tables",
    }:  # fmt: skip
        assert config.tracking.experiment == values["var.experiment"]
        assert config.tracking.model_name == values["var.model_name"]


def test_production_by_hand_uses_what_the_schedule_uses() -> None:
    """A job that a person starts with the target's configuration file meets the same warehouse and models."""
    values = values_of("prod")
    config = load_config(PROJECT / values["var.conf"])
    assert config.storage.root == values["var.storage_root"]
    assert config.storage.database == values["var.database"]
    assert config.tracking.experiment == values["var.experiment"]
    assert config.tracking.model_name == values["var.model_name"]


def test_development_never_touches_production() -> None:
    prod, dev = values_of("prod"), values_of("dev")
    for name in ("storage_root", "database", "experiment", "model_name"):
        assert prod[f"var.{name}"] != dev[f"var.{name}"]
        assert "ann" in dev[f"var.{name}"]  # each developer has their own
    by_hand = [load_config(PROJECT / values["var.conf"]) for values in (prod, dev)]
    assert by_hand[0].storage.root != by_hand[1].storage.root
    assert by_hand[0].tracking.model_name != by_hand[1].tracking.model_name


@pytest.mark.parametrize("target", TARGETS)
def test_models_have_a_registry_that_knows_aliases(target: str) -> None:
    config = load_config(PROJECT / values_of(target)["var.conf"])
    assert config.tracking.registry_uri == "databricks-uc"
    assert values_of(target)["var.model_name"].count(".") == 2  # catalog.schema.model


@pytest.mark.parametrize("job", JOBS)
def test_a_job_is_whole(job: dict[str, Any]) -> None:
    assert set(job) <= JOB_KEYS
    assert job["max_concurrent_runs"] == 1
    clusters = {item["job_cluster_key"]: item["new_cluster"] for item in job["job_clusters"]}
    above: set[str] = set()
    for task in job["tasks"]:
        # Only tasks above: so there is no cycle.
        assert {item["task_key"] for item in task.get("depends_on", [])} <= above
        assert task["job_cluster_key"] in clusters
        assert 0 < task["timeout_seconds"] <= job["timeout_seconds"]
        above.add(task["task_key"])
    for cluster in clusters.values():
        assert set(cluster) <= CLUSTER_KEYS
        assert re.fullmatch(r"15\.4\.x-[cg]pu-ml-scala2\.12", cluster["spark_version"])
        assert ("num_workers" in cluster) != ("autoscale" in cluster)


def test_the_nightly_job_is_scheduled_once_a_night_in_utc() -> None:
    _, nightly = jobs_of("prod")["nightly"]
    assert nightly["schedule"] == {
        "quartz_cron_expression": "0 0 2 * * ?",
        "timezone_id": "UTC",
        "pause_status": "UNPAUSED",
    }
    assert [task["task_key"] for task in nightly["tasks"]] == ["nightly"]
    # A night that took in its mappings from elsewhere would miss the bank's payments.
    path, _ = jobs_of("prod")["nightly"]
    config, _ = parsed(nightly["tasks"][0], path)
    assert Path(config.nightly.payments).is_file() and Path(str(config.nightly.labels)).is_file()


def test_maintenance_is_scheduled_weekly_and_apart_from_the_nights() -> None:
    _, maintenance = jobs_of("prod")["maintenance"]
    schedule = maintenance["schedule"]
    assert (schedule["timezone_id"], schedule["pause_status"]) == ("UTC", "UNPAUSED")
    _, minute, hour, _, _, weekday = schedule["quartz_cron_expression"].split()
    assert (minute, weekday) == ("0", "SUN")
    # The night's time limit has passed, and the next night does not begin before maintenance's has.
    _, nightly = jobs_of("prod")["nightly"]
    assert 2 + nightly["timeout_seconds"] / 3600 <= int(hour)
    assert int(hour) + maintenance["timeout_seconds"] / 3600 <= 24 + 2
    assert [task["task_key"] for task in maintenance["tasks"]] == ["create_views", "maintain_tables"]


@pytest.mark.parametrize(("target", "path", "task"), TASKS)
def test_libraries_are_the_pinned_ones_and_the_wheel(target: str, path: Path, task: dict[str, Any]) -> None:
    wheels = [item["whl"] for item in task["libraries"] if "whl" in item]
    packages = dict(item["pypi"]["package"].split("==") for item in task["libraries"] if "pypi" in item)
    assert len(wheels) + len(packages) == len(task["libraries"])
    assert [(path.parent / wheel).resolve() for wheel in wheels] == [PROJECT / "dist/*.whl"]
    assert packages == {name: PINNED[name] for name in packages}


def test_the_wheel_holds_all_of_the_product(tmp_path: Path) -> None:
    assert "--wheel-dir dist ." in BUNDLE["artifacts"]["lbsf"]["build"]
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("lbsf", "jobs"):
        shutil.copytree(PROJECT / name, tmp_path / name, ignore=skip)
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(PROJECT / name, tmp_path)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", "dist", "."]
    subprocess.run(build, cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        entry_points = archive.read(f"lbsf-{lbsf.__version__}.dist-info/entry_points.txt").decode()
    source = {
        path.relative_to(PROJECT).as_posix()
        for name in ("lbsf", "jobs")
        for path in (PROJECT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == source
    for module in re.findall(r"= jobs\.(\w+):main", entry_points):
        assert (PROJECT / f"jobs/{module}.py").is_file()


def test_the_environment_has_this_version_installed() -> None:
    assert importlib.metadata.version("lbsf") == lbsf.__version__
