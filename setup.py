"""Package metadata. Pinned versions of everything stand in conf/environment/."""

import re
from pathlib import Path

from setuptools import find_packages, setup

VERSION = re.search(
    r'__version__ = "(.+)"', Path(__file__).with_name("lbsf").joinpath("__init__.py").read_text("utf-8")
)
assert VERSION is not None

JOBS = (
    "demo",
    "generate_payments",
    "ingest_payments",
    "ingest_labels",
    "fold_payments",
    "build_examples",
    "pretrain_model",
    "train_model",
    "validate_model",
    "promote_model",
    "score_users",
    "replay_score",
    "monitor_scores",
    "report",
    "nightly",
    "create_views",
    "answer_queries",
    "serve_sql",
    "maintain_tables",
)

# Petastorm 0.13.1 does not import with a PyArrow newer than 14.
CORE = ["pydantic>=2.5", "pyyaml>=6", "psutil", "numpy>=1.23,<2", "pandas>=1.5,<3", "pyarrow>=14,<15", "polars>=1.20"]
SPARK = ["pyspark>=3.5,<3.6", "delta-spark>=3.2,<3.4", "deltalake>=1.1"]
TRAIN = [
    "torch>=2.3",
    "petastorm==0.13.1",
    "safetensors>=0.4",
    "scikit-learn>=1.3",
    "scipy>=1.11",
    "lightgbm>=4.3",
    "mlflow>=3.1",
    "matplotlib>=3.7",
    "jinja2>=3.1",
    "tqdm>=4.66",
]
# Horovod is source only: conf/environment/build_horovod.sh builds its wheel. The Databricks ML
# runtime brings its own, so it is not among the wheel's plain requirements.
HOROVOD = ["horovod==0.28.1"]
# What horovodrun and the Horovod build import without declaring it.
HOROVOD_BUILD = ["cffi", "cloudpickle", "psutil", "packaging", "setuptools<70", "wheel"]
DEV = [
    "chispa",
    "hypothesis",
    "import-linter",
    "ipykernel",
    "mkdocs-material",
    "mkdocstrings[python]",
    "mypy",
    "nbclient",
    "nbformat",
    "pandas-stubs",
    "pre-commit",
    "pytest",
    "pytest-timeout",
    "pytest-xdist",
    "ruff",
    "types-PyYAML",
    "types-tqdm",
]
# The long-sequence models that `make experiment` trains beside ours.
EXPERIMENT = ["transformers>=5"]
# What the benchmarks compare with and draw; docs/analysts.md reads tables with DuckDB too. pytorch-lifestream 0.7.0
# does not import.
BENCH = ["captum>=0.7", "duckdb>=1", "matplotlib>=3.7", "psutil", "pytorch-lifestream==0.6.0"]

setup(
    name="lbsf",
    version=VERSION[1],
    description="Long-term Payment Behavior Sequence Folding: default risk from half a year of payments",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["lbsf", "lbsf.*", "jobs", "jobs.*"]),
    package_data={"lbsf": ["py.typed"], "lbsf.monitoring": ["*.html"]},
    python_requires=">=3.11,<3.12",
    install_requires=CORE,
    extras_require={
        "spark": SPARK,
        "train": TRAIN,
        "horovod": HOROVOD,
        "horovod-build": HOROVOD_BUILD,
        "experiment": EXPERIMENT,
        "dev": DEV,
        "bench": BENCH,
    },
    entry_points={"console_scripts": [f"lbsf-{job.replace('_', '-')} = jobs.{job}:main" for job in JOBS]},
)
