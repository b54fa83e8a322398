"""The registered model: its versions, their files, and the aliases `challenger` and `champion`."""

from __future__ import annotations

import importlib.metadata
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from lbsf.errors import InputError
from lbsf.models.artifact import files_digest, require_digest
from lbsf.tracking.flavor import DIGEST, SIGNATURE
from lbsf.tracking.run import Run
from lbsf.tracking.store import NOT_THERE, store_failures

CHALLENGER = "challenger"
CHAMPION = "champion"
_REQUIREMENTS = ("numpy", "pandas", "pyarrow", "pydantic", "pyyaml", "safetensors", "torch")


@dataclass(frozen=True)
class RegisteredModel:
    """One version of the registered model.

    Attributes:
        name: name of the registered model.
        version: MLflow's version number.
        run_id: the run that trained it.
        folder: local folder for lbsf.models.artifact.load_model; its files are verified to be those registered.
        metrics: last value of each of the run's metrics.
        tags: tags of the version.
    """

    name: str
    version: str
    run_id: str
    folder: Path
    metrics: dict[str, float]
    tags: dict[str, str]


class Registry:
    """One registered model in MLflow's current store."""

    def __init__(self, model_name: str):
        self.model_name = model_name
        self._client = mlflow.MlflowClient()

    @store_failures()
    def register(self, run: Run, folder: Path, example: pd.DataFrame) -> RegisteredModel:
        """Log a saved model to its run, register it and make it the challenger.

        A run is registered only once: if an earlier call was interrupted, this one completes it.

        Args:
            run: the active run.
            folder: folder written by lbsf.models.artifact.save_model.
            example: a few folds with the columns of SIGNATURE; MLflow scores them as a check.
        """
        try:
            self._client.create_registered_model(self.model_name)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"):
                raise
        version = self._registered(run.run_id) or self._new_version(run, folder, example)
        # The version may have been promoted since an earlier call.
        if self.version_of(CHAMPION) != str(version.version):
            self._client.set_registered_model_alias(self.model_name, CHALLENGER, version.version)
        return self._model(version)

    def _registered(self, run_id: str) -> ModelVersion | None:
        """Return the run's version, and remove versions of the run that never became ready."""
        found = None
        for version in self._versions():
            if version.run_id == run_id and version.status == "READY":
                found = version
            elif version.run_id == run_id:
                self._client.delete_model_version(version.name, version.version)
        return found

    def _new_version(self, run: Run, folder: Path, example: pd.DataFrame) -> ModelVersion:
        import lbsf

        # Models that the run logged before it was interrupted never got a version.
        experiment = self._client.get_run(run.run_id).info.experiment_id
        for left in self._client.search_logged_models([experiment], f"source_run_id = '{run.run_id}'"):
            self._client.delete_logged_model(left.model_id)
        digest = files_digest(folder)
        info = mlflow.pyfunc.log_model(
            name="model",
            loader_module="lbsf.tracking.flavor",
            data_path=str(folder),
            code_paths=[str(Path(lbsf.__file__).parent)],
            signature=SIGNATURE,
            input_example=example,
            pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in _REQUIREMENTS],
            metadata={DIGEST: digest},
        )
        return self._client.create_model_version(
            self.model_name, info.model_uri, run.run_id, tags={DIGEST: digest}, model_id=info.model_id
        )

    def fetch(self, alias: str) -> RegisteredModel:
        """Return the version with an alias, and download its files.

        Raises:
            InputError: no version has the alias, or its files differ from those that were registered.
        """
        found = self.find(alias)
        if found is None:
            raise InputError(
                f"no {alias} of model {self.model_name} in the registry: train, validate and promote a model first"
            )
        return found

    @store_failures()
    def find(self, alias: str) -> RegisteredModel | None:
        """Return the version as `fetch` does, but None if no version has the alias."""
        version = self._carrier(alias)
        return None if version is None else self._model(version)

    @store_failures()
    def version_of(self, alias: str) -> str | None:
        """Return the number of the version with an alias, without checking its files; None if there is none."""
        version = self._carrier(alias)
        return None if version is None else str(version.version)

    @store_failures()
    def of_version(self, name: str, version: str) -> RegisteredModel:
        """Return a registered version by its number.

        Raises:
            InputError: the version no longer exists, or its files differ from those that were registered.
        """
        try:
            return self._model(self._client.get_model_version(name, version))
        except MlflowException as error:
            if error.error_code not in NOT_THERE:
                raise
            raise InputError(f"model {name} version {version} cannot be loaded: {error.message}") from None

    @store_failures()
    def tag(self, model: RegisteredModel, tags: Mapping[str, str | None]) -> None:
        """Set tags of a version, one after the other in this order; None deletes a tag."""
        there = self._client.get_model_version(model.name, model.version).tags
        for key, value in tags.items():
            if value is not None:
                self._client.set_model_version_tag(model.name, model.version, key, value)
            elif key in there:
                self._client.delete_model_version_tag(model.name, model.version, key)

    @store_failures()
    def promote(self, model: RegisteredModel) -> None:
        """Make a version the champion, and no longer the challenger. Can be repeated."""
        self._client.set_registered_model_alias(model.name, CHAMPION, model.version)
        if self.version_of(CHALLENGER) == model.version:
            self._client.delete_registered_model_alias(model.name, CHALLENGER)

    @store_failures()
    def table_versions(self) -> dict[str, set[int]]:
        """Return the Delta versions, by table, that any version of the model was trained or validated on.

        Raises:
            InputError: the model is not in the registry, or the run of one of its versions is gone.
        """
        found: dict[str, set[int]] = defaultdict(set)
        for version in self._versions():
            try:
                run = self._client.get_run(str(version.run_id))
            except MlflowException as error:
                if error.error_code not in NOT_THERE:
                    raise
                raise InputError(
                    f"model {self.model_name} version {version.version}: its run {version.run_id} is gone, so nobody "
                    "knows the tables that it was trained on; restore the run, or delete the version"
                ) from None
            # train_model logs them as parameters, validate_model as tags.
            tags = self._client.get_model_version(version.name, version.version).tags
            recorded = [*run.data.params.items(), *((k.removeprefix("validation_"), v) for k, v in tags.items())]
            for key, value in recorded:
                table, suffix, rest = key.rpartition("_version")
                if suffix and not rest and value.isdigit():
                    found[table].add(int(value))
        return dict(found)

    def _carrier(self, alias: str) -> ModelVersion | None:
        try:
            return self._client.get_model_version_by_alias(self.model_name, alias)
        except MlflowException as error:
            if error.error_code in NOT_THERE:
                return None
            raise

    def _versions(self) -> Iterator[ModelVersion]:
        """Yield every version of the registered model."""
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
        """Download a version's files and check that they are those that were registered."""
        what = f"model {version.name} version {version.version}"
        tags = dict(self._client.get_model_version(version.name, version.version).tags)
        try:
            with store_failures():
                downloaded = Path(mlflow.artifacts.download_artifacts(f"models:/{version.name}/{version.version}"))
            folder = downloaded / Model.load(str(downloaded)).flavors["python_function"]["data"]
        except (OSError, KeyError, MlflowException) as error:
            raise InputError(f"{what}: its files cannot be read ({' '.join(str(error).split())[:200]})") from None
        require_digest(folder, tags.get(DIGEST), what)
        run_id = str(version.run_id)
        return RegisteredModel(
            name=version.name,
            version=str(version.version),
            run_id=run_id,
            folder=folder,
            metrics=dict(self._client.get_run(run_id).data.metrics),
            tags=tags,
        )
