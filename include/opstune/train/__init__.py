"""The train stage: profiles, the trainer process, its checkpoints, and its failures told apart."""

from opstune.train.bases import base_folder
from opstune.train.place import Ended, Hear, Here, Place
from opstune.train.preflight import preflight
from opstune.train.profiles import Profile, load_profile, profile_names
from opstune.train.progress import Progress
from opstune.train.trainer import Trainer

__all__ = [
    "Ended",
    "Hear",
    "Here",
    "Place",
    "Profile",
    "Progress",
    "Trainer",
    "base_folder",
    "load_profile",
    "preflight",
    "profile_names",
]
