"""Label Studio, both ways: what needs a human goes out, what is done comes back, and how far people agree."""

from opstune.annotate.choose import Guess, Model
from opstune.annotate.projects import project_names, skill_of
from opstune.annotate.pull import PullReport, pull
from opstune.annotate.pull import told as pull_told
from opstune.annotate.push import PushReport, push
from opstune.annotate.push import told as push_told
from opstune.annotate.record import Scrub
from opstune.annotate.summary import for_card as agreement_for_card
from opstune.annotate.summary import read as read_agreement
from opstune.annotate.waiting import Progress, missing, progress
from opstune.annotate.waiting import told as progress_told

__all__ = [
    "Guess",
    "Model",
    "Progress",
    "PullReport",
    "PushReport",
    "Scrub",
    "agreement_for_card",
    "missing",
    "progress",
    "progress_told",
    "project_names",
    "pull",
    "pull_told",
    "push",
    "push_told",
    "read_agreement",
    "skill_of",
]
