"""How each project asks about an example and reads what people answered, a file a form."""

from __future__ import annotations

from opstune.annotate.forms.base import Form
from opstune.annotate.forms.log_error import LogErrorReview
from opstune.annotate.forms.query_quality import QueryQuality
from opstune.annotate.forms.remediation import RemediationReview
from opstune.annotate.forms.root_cause import RootCauseValidation
from opstune.errors import ConfigError

_ALL: tuple[Form, ...] = (RootCauseValidation(), QueryQuality(), RemediationReview(), LogErrorReview())
FORMS: dict[str, Form] = {form.name: form for form in _ALL}


def get(name: str) -> Form:
    """The form of this name, which is also the name of its page in config/label_studio.

    Raises:
        ConfigError: there is none.
    """
    try:
        return FORMS[name]
    except KeyError:
        raise ConfigError(f"there is no form {name!r}", "config/label_studio", f"Known: {', '.join(FORMS)}.") from None
