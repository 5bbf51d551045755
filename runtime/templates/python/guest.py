"""A cantrip without a model: summarises the files of the folder that the intent names, as in `Summarise docs/`."""

import json

import wit_world
from wit_world.imports import list_dir, log, read_file

from summary import summary


# A gate that fails raises; what `run` raises as Err is the guest's failure.
class WitWorld(wit_world.WitWorld):
    def run(self, intent: str) -> str:
        folder = intent.split()[-1].rstrip("/")
        names = [entry.name for entry in list_dir.list(folder) if entry.name.endswith(".md")]
        lines = [summary(name, read_file.read(f"{folder}/{name}", None, None)) for name in names]
        log.log(log.Level.INFO, f"{len(lines)} files read")
        return json.dumps("\n".join(lines))
