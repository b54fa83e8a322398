"""The MLflow store: runs, pretrained weights, and the registered model."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException

from lbsf.config.models import Config
from lbsf.errors import InputError
from lbsf.models.artifact import files_digest, require_digest
from lbsf.tracking.flavor import DIGEST
from lbsf.tracking.registry import Registry
from lbsf.tracking.run import Run
from lbsf.tracking.store import NOT_THERE, require_usable, store_failures

PRETRAINED = "pretrained"
# Tag with the key of the work that a run does.
KEY = "lbsf.key"


class Tracker(Registry):
    """One tracking store and its registry: the configured server, or a sqlite file under `storage.root`/mlflow."""

    def __init__(self, config: Config, root: Path):
        """Set MLflow's tracking and registry URIs.

        Args:
            config: the configuration; its `tracking` section is used.
            root: `storage.root` as a local path, for the sqlite store.

        Raises:
            StoreError: the store is a server that cannot be reached, or a sqlite file that stays locked.
        """
        self.uri = config.tracking.uri
        artifacts = None
        if self.uri is None:
            folder = root / "mlflow"
            folder.mkdir(parents=True, exist_ok=True)
            self.uri, artifacts = f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri()
        registry = config.tracking.registry_uri or self.uri
        for uri in dict.fromkeys((self.uri, registry)):
            require_usable(uri)
        mlflow.set_tracking_uri(self.uri)
        mlflow.set_registry_uri(registry)
        super().__init__(config.tracking.model_name)
        self._experiment, self._artifacts = config.tracking.experiment, artifacts

    @contextmanager
    def run(self, name: str, key: str | None = None) -> Iterator[Run]:
        """Start a new run; it is marked as failed if the block raises.

        Args:
            name: name of the run.
            key: key of the work that the run does. No other process may be doing this work: runs with the same key
                that are still RUNNING are set to KILLED.
        """
        with store_failures():
            if mlflow.get_experiment_by_name(self._experiment) is None:
                mlflow.create_experiment(self._experiment, artifact_location=self._artifacts)
            mlflow.set_experiment(self._experiment)
            if key is not None:
                self._end_killed(key)
            with mlflow.start_run(run_name=name, tags={} if key is None else {KEY: key}) as active:
                yield Run(active.info.run_id)

    @contextmanager
    def resume(self, run_id: str, key: str | None = None) -> Iterator[Run]:
        """Resume an earlier run; `key` as for `run`.

        Raises:
            InputError: the run no longer exists.
        """
        with store_failures():
            if key is not None:
                self._end_killed(key, but=run_id)
            try:
                active = mlflow.start_run(run_id=run_id)
            except MlflowException as error:
                if error.error_code not in NOT_THERE:
                    raise
                raise InputError(f"MLflow run {run_id} cannot go on ({error.message}): train with --fresh") from None
            with active:
                yield Run(run_id)

    def _end_killed(self, key: str, but: str | None = None) -> None:
        """Set runs of a key that were killed but are still RUNNING to KILLED, except the run `but`."""
        experiment = mlflow.get_experiment_by_name(self._experiment)
        found = self._client.search_runs(
            [experiment.experiment_id] if experiment else [],
            f"tags.`{KEY}` = '{key}' and attributes.status = 'RUNNING'",
        )
        for run in found:
            if run.info.run_id != but:
                self._client.set_terminated(run.info.run_id, "KILLED")

    @store_failures()
    def save_pretrained(self, run: Run, folder: Path) -> None:
        """Log pretrained weights to their run, for `latest_pretrained`."""
        mlflow.log_artifacts(str(folder), PRETRAINED, run_id=run.run_id)
        self._client.set_tag(run.run_id, DIGEST, files_digest(folder))
        # Set last, because `latest_pretrained` finds the weights by this tag.
        self._client.set_tag(run.run_id, PRETRAINED, "weights")

    @store_failures()
    def latest_pretrained(self, folder: Path) -> str:
        """Copy the newest pretrained weights into `folder`; return the id of their run.

        Raises:
            InputError: there are none, or their files differ from those that were logged.
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
        require_digest(local, found[0].data.tags.get(DIGEST), f"pretrained weights of run {run_id}")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(local, folder)
        return run_id
