"""What the model is taught, a file a skill. Adding one: write its file, list it here, add its gates."""

from __future__ import annotations

from opstune.errors import ConfigError
from opstune.skills.audit import Audit
from opstune.skills.base import Skill
from opstune.skills.code_review import CodeReview
from opstune.skills.diagnosis import Diagnosis
from opstune.skills.log_error import LogError
from opstune.skills.remediation import Remediation
from opstune.skills.triage import Triage
from opstune.skills.workflow import Workflow

_ALL = (Remediation(), Triage(), LogError(), Diagnosis(), Audit(), CodeReview(), Workflow())
SKILLS: dict[str, Skill] = {skill.name: skill for skill in _ALL}


def get(name: str) -> Skill:
    """The skill of this name.

    Raises:
        ConfigError: there is none.
    """
    try:
        return SKILLS[name]
    except KeyError:
        raise ConfigError(f"there is no skill {name!r}", "skills", f"Known: {', '.join(SKILLS)}.") from None
