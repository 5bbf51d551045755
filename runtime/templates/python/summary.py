"""What of the guest needs no gates."""

import re


def summary(name: str, text: str) -> str:
    """The file's name, and its first sentence that is no heading."""
    body = " ".join(line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    first = re.match(r"[^.!?]*[.!?]?", body)[0].strip()
    return f"{name}: {first or '(empty)'}"
