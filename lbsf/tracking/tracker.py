"""MLflow runs and the registered model with its aliases `challenger` and `champion`."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# MLflow reads this when it is imported: a bank's network is not told about each run.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow  # noqa: E402
import pandas as pd  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from mlflow.entities.model_registry import ModelVersion  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.models import Model  # noqa: E402

from lbsf.config.models import Config  # noqa: E402
from lbsf.errors import InputError  # noqa: E402
from lbsf.tracking.flavor import SIGNATURE  # noqa: E402

CHALLENGER = "challenger"
CHAMPION = "champion"
PRETRAINED = "pretrained"
_REQUIREMENTS = ("numpy", "pandas", "pyarrow", "pydantic", "pyyaml", "safetensors", "torch")

logging.getLogger("alembic").setLevel(logging.WARNING)
logging.getLogger("mlflow").setLevel(logging.ERROR)


@dataclass(frozen=True)
class RegisteredModel:
    """One version of the registered model.

    Attributes:
        name: registered model.
        version: its version, as MLflow numbers it.
        run_id: the run that made it.
        folder: local folder that lbsf.models.artifact.load_model reads.
        metrics: the run's metrics, last value each.
        tags: the version's tags.
    """

    name: str
    version: str
    run_id: str
    folder: Path
    metrics: dict[str, float]
    tags: dict[str, str]


class Run:
    """An MLflow run that is under way, or one that is taken up again."""

    def __init__(self, run_id: str):
        self.run_id = run_id

    def params(self, values: Mapping[str, Any]) -> None:
        """Logs parameters."""
        mlflow.log_params(dict(values), run_id=self.run_id)

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Logs metrics, at one epoch or for the whole run."""
        mlflow.log_metrics(dict(values), step=step, run_id=self.run_id)

    def figure(self, figure: Figure, name: str) -> None:
        """Logs a picture under figures/NAME.png."""
        mlflow.log_figure(figure, f"figures/{name}.png")

    def document(self, values: Mapping[str, Any], name: str) -> None:
        """Logs a mapping under a file name that ends in .json or .yaml."""
        mlflow.log_dict(dict(values), name)

    def table(self, rows: pd.DataFrame, name: str) -> None:
        """Logs a table as tables/NAME.csv and tables/NAME.json (a list of rows), replacing older ones.

        Not mlflow.log_table, which would add the rows of a second validation to those of the first.
        """
        mlflow.log_text(rows.to_csv(index=False), f"tables/{name}.csv")
        mlflow.log_text(rows.to_json(orient="records", indent=2), f"tables/{name}.json")


class Tracker:
    """One tracking store: the configured server, or a sqlite file under `storage.root`/mlflow."""

    def __init__(self, config: Config, root: Path):
        """Points MLflow at the store.

        Args:
            config: its `tracking` section.
            root: `storage.root` as a local path, for the embedded store.
        """
        self.model_name = config.tracking.model_name
        self.uri = config.tracking.uri
        artifacts = None
        if self.uri is None:
            folder = root / "mlflow"
            folder.mkdir(parents=True, exist_ok=True)
            self.uri, artifacts = f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri()
        mlflow.set_tracking_uri(self.uri)
        mlflow.set_registry_uri(config.tracking.registry_uri or self.uri)
        self._experiment, self._artifacts = config.tracking.experiment, artifacts
        self._client = mlflow.MlflowClient()

    @contextmanager
    def run(self, name: str) -> Iterator[Run]:
        """A new run; it is marked failed where the block raises."""
        if mlflow.get_experiment_by_name(self._experiment) is None:
            mlflow.create_experiment(self._experiment, artifact_location=self._artifacts)
        mlflow.set_experiment(self._experiment)
        with mlflow.start_run(run_name=name) as active:
            yield Run(active.info.run_id)

    @contextmanager
    def resume(self, run_id: str) -> Iterator[Run]:
        """A run that was begun earlier, to log more of it. Raises InputError where the store has it no more."""
        try:
            active = mlflow.start_run(run_id=run_id)
        except MlflowException as error:
            raise InputError(f"MLflow run {run_id} cannot go on ({error.message}): train with --fresh") from None
        with active:
            yield Run(run_id)

    def register(self, run: Run, folder: Path, example: pd.DataFrame) -> RegisteredModel:
        """Logs a saved model to its run, registers it and makes it the challenger.

        Args:
            run: the run under way.
            folder: as lbsf.models.artifact.save_model wrote it.
            example: a few rows of folds with the signature's columns; MLflow scores them as a check.
        """
        import lbsf

        info = mlflow.pyfunc.log_model(
            name="model",
            loader_module="lbsf.tracking.flavor",
            data_path=str(folder),
            code_paths=[str(Path(lbsf.__file__).parent)],
            signature=SIGNATURE,
            input_example=example,
            pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in _REQUIREMENTS],
        )
        try:
            self._client.create_registered_model(self.model_name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        version = self._client.create_model_version(self.model_name, info.model_uri, run.run_id)
        self._client.set_registered_model_alias(self.model_name, CHALLENGER, version.version)
        return self._model(version)

    def save_pretrained(self, run: Run, folder: Path) -> None:
        """Logs weights that were trained without labels to their run, for `latest_pretrained`."""
        mlflow.log_artifacts(str(folder), PRETRAINED, run_id=run.run_id)
        self._client.set_tag(run.run_id, PRETRAINED, "weights")

    def latest_pretrained(self, folder: Path) -> str:
        """Copies the newest weights that were trained without labels into `folder`; the run that made them.

        Raises:
            InputError: there are none.
        """
        experiment = mlflow.get_experiment_by_name(self._experiment)
        found = self._client.search_runs(
            [experiment.experiment_id] if experiment else [],
            f"tags.{PRETRAINED} = 'weights' and attributes.status = 'FINISHED'",
            order_by=["attributes.end_time DESC"],
            max_results=1,
        )
        if not found:
            raise InputError("no pretrained weights: run pretrain_model first, or set training.pretrained=false")
        run_id = str(found[0].info.run_id)
        local = Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=PRETRAINED))
        shutil.copytree(local, folder, dirs_exist_ok=True)
        return run_id

    def fetch(self, alias: str) -> RegisteredModel:
        """The version that carries an alias, its files made local.

        Raises:
            InputError: no version carries it.
        """
        found = self.find(alias)
        if found is None:
            raise InputError(
                f"no {alias} of model {self.model_name} in the registry: train, validate and promote a model first"
            )
        return found

    def find(self, alias: str) -> RegisteredModel | None:
        """Like fetch, but None where no version carries the alias."""
        try:
            version = self._client.get_model_version_by_alias(self.model_name, alias)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        return self._model(version)

    def of_version(self, name: str, version: str) -> RegisteredModel:
        """A registered version by its number. Raises InputError where the registry has it no more."""
        try:
            return self._model(self._client.get_model_version(name, version))
        except MlflowException as error:
            raise InputError(f"model {name} version {version} cannot be loaded: {error.message}") from None

    def tag(self, model: RegisteredModel, tags: Mapping[str, str]) -> None:
        """Writes tags onto a version."""
        for key, value in tags.items():
            self._client.set_model_version_tag(model.name, model.version, key, value)

    def promote(self, model: RegisteredModel) -> None:
        """Makes a version the champion; it is no challenger any more."""
        self._client.set_registered_model_alias(model.name, CHAMPION, model.version)
        challenger = self.find(CHALLENGER)
        if challenger is not None and challenger.version == model.version:
            self._client.delete_registered_model_alias(model.name, CHALLENGER)

    def table_versions(self) -> dict[str, set[int]]:
        """Delta versions, by table, that any version of the registered model was trained or validated on.

        Raises:
            InputError: the registry does not know the model, or not what a version of it was trained on.
        """
        found: dict[str, set[int]] = defaultdict(set)
        for version in self._versions():
            try:
                run = self._client.get_run(str(version.run_id))
            except MlflowException as error:
                if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    raise
                raise InputError(
                    f"model {self.model_name} version {version.version}: its run {version.run_id} is gone, so nobody "
                    "knows the tables that it was trained on; restore the run, or delete the version"
                ) from None
            # As train_model logs them, and as validate_model tags them.
            tags = self._client.get_model_version(version.name, version.version).tags
            recorded = [*run.data.params.items(), *((k.removeprefix("validation_"), v) for k, v in tags.items())]
            for key, value in recorded:
                table, suffix, rest = key.rpartition("_version")
                if suffix and not rest and value.isdigit():
                    found[table].add(int(value))
        return dict(found)

    def _versions(self) -> Iterator[ModelVersion]:
        """Every version of the registered model."""
        token = None
        while True:
            try:
                page = self._client.search_model_versions(f"name='{self.model_name}'", page_token=token)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                raise InputError(
                    f"no model {self.model_name} in the registry: train one first, or set tracking.model_name"
                ) from None
            yield from page
            token = page.token
            if not token:
                return

    def _model(self, version: ModelVersion) -> RegisteredModel:
        folder = Path(mlflow.artifacts.download_artifacts(f"models:/{version.name}/{version.version}"))
        data = Model.load(str(folder)).flavors["python_function"]["data"]
        run_id = str(version.run_id)
        run = self._client.get_run(run_id)
        return RegisteredModel(
            name=version.name,
            version=str(version.version),
            run_id=run_id,
            folder=folder / data,
            metrics=dict(run.data.metrics),
            tags=dict(self._client.get_model_version(version.name, version.version).tags),
        )
