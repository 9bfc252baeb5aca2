"""The one migration history of all packages."""
