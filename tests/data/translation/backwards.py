"""An engine for tests of what is around engines: it spells words backwards, and notes what it was shown."""

from pathlib import Path


class Backwards:
    exact = False

    def __init__(self, log: Path | None = None, fingerprint: str = "backwards"):
        self.fingerprint = fingerprint
        self.shown: list[str] = []
        self._log = log

    def check(self, source, targets):
        pass

    def translate(self, texts, source, target):
        self.shown += [f"{target} {text}" for text in texts]
        if self._log:
            with self._log.open("a") as file:
                file.writelines(f"{target} {text}\n" for text in texts)
        return [
            None if "untranslatable" in text else " ".join(w[::-1] for w in text.split()) for text in texts
        ]
