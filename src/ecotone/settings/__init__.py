"""Configuration: each setting with its environment variable, default and documentation. Knows no other package."""

from ecotone.settings.file import with_file
from ecotone.settings.settings import Option, Settings, options, strangers

__all__ = ["Option", "Settings", "options", "strangers", "with_file"]
