"""Write a migration from the difference between the tables of all packages and the history: `make migration`."""

import re
import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.config import Config

from ecotone.app import tables
from ecotone.database import Database

FOLDER = Path(tables.__file__).parents[1] / "database" / "migrations"


def main(name: str) -> None:
    versions = sorted((FOLDER / "versions").glob("[0-9]*.py"))
    number = f"{len(versions) + 1:04d}"
    slug = re.sub(r"\W+", "_", name.lower()).strip("_") or "change"
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/at.db")
        database.migrate()
        config = Config()
        config.set_main_option("script_location", str(FOLDER))
        with database.engine.connect() as connection:
            config.attributes |= {"connection": connection, "metadata": tables.METADATA}
            command.revision(config, message=name, rev_id=f"{number}_{slug}", autogenerate=True)
    for written in (FOLDER / "versions").glob(f"{number}_*.py"):
        written.rename(written.with_name(f"{number}_{slug}.py"))
        print(written.with_name(f"{number}_{slug}.py"))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
