"""Ollama: an immutable tag a version, questioned under its own name, then copied to the name that production asks.

What production asked before is kept as ``previous``. Going back is deploying the version before: its tag is still
there, so that is one copy.
"""

from __future__ import annotations

import logging

from opstune.errors import DeployError, IntegrityError, OpstuneError, OutsideError
from opstune.serve.deploy import modelfile
from opstune.serve.deploy.base import Release
from opstune.serve.deploy.modelfile import Modelfile
from opstune.serve.deploy.ollama_api import NotThere, Ollama
from opstune.serve.deploy.smoke import Ask, Smoke
from opstune.settings import ServeSettings

log = logging.getLogger(__name__)

PREVIOUS = "previous"


class OllamaTarget:
    """Production asks ``model:prod``; ``prod`` is ``serve.deploy.production``."""

    name = "ollama"

    def __init__(self, api: Ollama, settings: ServeSettings) -> None:
        self._api = api
        self._settings = settings
        self._smoke: Smoke | None = None

    def prepare(self, release: Release) -> list[str]:
        """Upload what is not there, make the version's tag, question it.

        Raises:
            IntegrityError: its tag is there and holds something else.
            DeployError: Ollama cannot use it, or it answers other than tested; a tag made here is removed again.
            ServiceDown: Ollama does not answer; what was uploaded is kept for the next attempt.
        """
        smoke = self._smoke = Smoke(release, self._settings)
        smoke.answer_here()
        before = self._api.tags().get(self._production(release))
        made = False
        try:
            made, told = self._place(release)
            told.append(_tell(smoke.check_prompt(lambda case: self._api.rendered(release.name, case), release.name)))
            told.append(_tell(smoke.check(self._asking(release.name), release.name)))
        except DeployError as error:
            if made:
                self._api.delete(release.name)
            error.saved = self._untouched(release, before)
            raise
        except OutsideError as error:
            error.saved = self._untouched(release, before)
            raise
        return told

    def switch(self, release: Release) -> list[str]:
        """Copy the version's tag to production's name, and ask once more under that name.

        Raises:
            DeployError: it answered other than tested, and what was there before is back.
            ServiceDown: Ollama does not answer any more.
        """
        smoke = self._smoke or Smoke(release, self._settings)
        production, previous = self._production(release), f"{release.model}:{PREVIOUS}"
        tags = self._api.tags()
        if tags.get(production) == tags[release.name]:
            told = [_tell(f"{production} is {release.name} already")]
            return [*told, _tell(smoke.check(self._asking(production), production))]
        if production in tags:
            self._api.copy(production, previous)
        self._api.copy(release.name, production)
        told = [_tell(f"{production} is {release.name} now" + self._before(tags, production))]
        try:
            return [*told, _tell(smoke.check(self._asking(production), production))]
        except DeployError as error:
            error.saved = self._put_back(tags, production, previous)
            raise
        except OutsideError as error:
            error.saved = f"{production} is {release.name} now, which answered well under its own name."
            raise

    def _place(self, release: Release) -> tuple[bool, list[str]]:
        """The version's tag, made where it is not there: whether it was, and what was done."""
        sha256, written = release.digest(), modelfile.read(release.shipped / "Modelfile")
        try:
            shown = self._api.show(release.name)
        except NotThere:
            shown = None
        if shown:
            _refuse_other(release, shown.blob, sha256, shown.modelfile, written)
            return False, [_tell(f"{release.name} is there already, with this GGUF and Modelfile: nothing uploaded")]
        size = release.gguf.stat().st_size / 1e6
        if self._api.has_blob(sha256):
            told = [_tell(f"the GGUF is there already (sha256 {sha256[:12]}, {size:.1f} MB)")]
        else:
            self._api.upload(release.gguf, sha256)
            told = [_tell(f"GGUF uploaded (sha256 {sha256[:12]}, {size:.1f} MB)")]
        self._api.create(release.name, sha256, written)
        return True, [*told, _tell(f"{release.name} made, with template, system message and parameters")]

    def _asking(self, model: str) -> Ask:
        return lambda case: self._api.ask(model, case, self._settings.max_new_tokens)

    def _production(self, release: Release) -> str:
        return f"{release.model}:{self._settings.deploy.production}"

    def _untouched(self, release: Release, before: str | None) -> str:
        production = self._production(release)
        return f"{production} was not touched." if before else f"There is no {production}, as before."

    def _before(self, tags: dict[str, str], production: str) -> str:
        if production not in tags:
            return ", the first"
        was = _named(tags, tags[production])
        return f"; {was or 'what it was'} is kept as {PREVIOUS}"

    def _put_back(self, tags: dict[str, str], production: str, previous: str) -> str:
        """What production and ``previous`` stood for, again; says so."""
        try:
            if production not in tags:
                self._api.delete(production)
                return f"{production} was removed again: there was none before."
            self._api.copy(previous, production)
            if (older := _named(tags, tags.get(previous))) is not None:
                self._api.copy(older, previous)
        except OpstuneError as error:
            log.error("%s could not be put back: %s", production, error)
            return f"{production} could not be put back; `ollama cp {previous} {production}` does."
        return f"{production} is {_named(tags, tags[production]) or 'what it was'} again."


def _refuse_other(release: Release, blob: str | None, sha256: str, found: Modelfile, wanted: Modelfile) -> None:
    """A version's tag never changes: one with other contents was made or changed by somebody else."""
    different = [
        name
        for name, there, here in (
            ("weights", blob, sha256),
            ("template", found.template, wanted.template),
            ("system message", found.system, wanted.system),
            ("parameters", found.parameters, wanted.parameters),
        )
        if there != here
    ]
    if different:
        what = f"{release.name} is on the server with other {' and '.join(different)} than the registered version has"
        raise IntegrityError(
            what, "Ollama", f"Find out who made it, remove it (ollama rm {release.name}), deploy again."
        )


def _named(tags: dict[str, str], digest: str | None) -> str | None:
    """The version that a digest is, by the name that never moves."""
    names = [name for name, found in tags.items() if found == digest]
    return next((name for name in sorted(names) if name.rpartition(":")[2][:1].isdigit()), None)


def _tell(sentence: str) -> str:
    log.info("%s", sentence)
    return sentence
