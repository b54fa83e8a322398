"""Configuration: frozen pydantic models and one YAML loader."""

from lbsf.config.loader import load_config
from lbsf.config.models import Config

__all__ = ["Config", "load_config"]
