"""The questions that a deployed version must answer as the file does that was tested.

A valid answer alone proves little: decoding under a schema makes even a model behind a wrong chat template write
valid JSON. So the same questions are put to the version's own GGUF in this process, and the answers must agree; and
where a place tells the prompt that it makes of a chat, that must be the one that training saw.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from opstune import skills
from opstune.engines.base import Answer, Case, parse
from opstune.engines.prompts import chat
from opstune.errors import DeployError
from opstune.serve import engine
from opstune.serve.deploy.base import Release
from opstune.settings import ServeSettings, config_dir, read_model

log = logging.getLogger(__name__)

#: Puts one case to a model that answers somewhere, and returns the text of its answer.
Ask = Callable[[Case], str]


class _Question(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    skill: str
    context: dict[str, Any]


class _Questions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    questions: list[_Question] = Field(min_length=1)


class Smoke:
    """The questions of ``config/smoke.yaml`` about what this version was taught."""

    def __init__(self, release: Release, settings: ServeSettings) -> None:
        """
        Raises:
            ConfigError: the file is wrong.
        """
        asked = read_model(config_dir() / "smoke.yaml", _Questions).questions
        self.cases = [Case(one.skill, one.context) for one in asked if one.skill in release.skills]
        self._release = release
        self._settings = settings

    def answer_here(self) -> None:
        """Find out what is right before anything is sent: what is wrong here is wrong everywhere.

        Raises:
            DeployError: the GGUF has a valid answer to no question.
            EvaluationError: it cannot be loaded.
        """
        log.info("%s answers %d questions here, to compare with", self._release.name, len(self._expected))

    @cached_property
    def _expected(self) -> list[tuple[Case, Answer]]:
        """What the GGUF answers here. A question that it has no valid answer to is not asked elsewhere."""
        answers = engine.load(self._release.gguf, self._settings).answer(self.cases, constrained=True)
        found = [(case, said) for case, said in zip(self.cases, answers, strict=True) if said.parsed is not None]
        if not found:
            what = f"{self._release.name} has a valid answer to none of {len(self.cases)} questions"
            raise DeployError(what, "smoke.yaml", f"Ask about what it was taught: {', '.join(self._release.skills)}.")
        return found

    def check_prompt(self, render: Callable[[Case], str | None], where: str) -> str:
        """Compare the prompt that a place makes of a question with the one that the version was taught on.

        What begins every text is left out: each place adds it by itself.

        Raises:
            DeployError: it is another one.
        """
        case = self._expected[0][0]
        there, here = render(case), self._prompt(case)
        if there is None:
            return f"{where} does not tell its prompt: its answers alone are compared"
        if there != here:
            what = f"{where} asks in another form than it was taught: {_short(there)!r} instead of {_short(here)!r}"
            raise DeployError(what, where, "Correct TEMPLATE in its Modelfile: convert and register the run again.")
        return f"{where} asks in the form that it was taught"

    def _prompt(self, case: Case) -> str:
        from llama_cpp.llama_chat_format import Jinja2ChatFormatter  # as the engine does

        shipped = self._release.shipped
        try:
            end = json.loads((shipped / "tokenizer_config.json").read_text()).get("eos_token", "")
            template = (shipped / "chat_template.jinja").read_text()
        except (OSError, ValueError) as error:
            raise DeployError(f"{shipped} holds no chat template", str(shipped), "Register the run again.") from error
        spelled = end.get("content", "") if isinstance(end, dict) else str(end)
        prompt: str = Jinja2ChatFormatter(template, eos_token=spelled, bos_token="")(messages=chat(case)).prompt
        return prompt

    def check(self, ask: Ask, where: str) -> str:
        """Ask each question, and say how it went.

        Raises:
            DeployError: an answer is not valid, or too few are what the tested file answers.
            OutsideError: what answers there is down.
        """
        same, different, slowest = 0, "", 0.0
        for case, here in self._expected:
            started = time.perf_counter()
            text = ask(case)
            slowest = max(slowest, time.perf_counter() - started)
            there = parse(case.skill, text)
            if there is None:
                what = f"{where} gives an answer to a {case.skill} question that is none: {_short(text)!r}"
                raise DeployError(what, where, _TODO)
            if skills.get(case.skill).score(here.parsed or {}, there)["correct"]:
                same += 1
            else:
                different = different or f"{_short(text)} instead of {_short(here.text)}"
        asked = len(self._expected)
        if same < self._settings.deploy.agreement * asked:
            what = f"{where} answers {same} of {asked} questions as the tested file does: {different}"
            raise DeployError(what, where, _TODO)
        return f"{where} answers {same} of {asked} questions as the tested file does, the slowest in {slowest:.2f} s"


_TODO = "Check chat template, stop words and context length there."


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 120 else f"{text[:117]}..."
