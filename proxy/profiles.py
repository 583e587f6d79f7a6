"""What does each profile refuse, and of what does it only warn? One table (SPEC 3)."""

from enum import Enum

from proxy.variables import Variables

PROFILES = ("development", "staging", "production")


class Answer(Enum):
    """What a profile says to something that is not safe everywhere."""

    ALLOWS = "allows"
    WARNS = "warns"
    REFUSES = "refuses"


class Concern(Enum):
    """What is not safe everywhere."""

    PLAIN_REDIS = "a store beyond this machine in plain text"
    GUESSED_STORE = "no store named, so that everything is kept in memory"
    TWO_STORES = "the variables of both stores, and none chosen"
    KNOWN_NAME_KEY = "the name key that everybody knows, on a store that others reach"
    NO_NAME_KEY = "no name key at all"
    PLAIN_SIGNING_KEYS = "signing keys fetched in plain text"
    EVERYBODY_TRUSTED = "every address a trusted peer"
    NO_AUDIT = "no audit log"
    UNKEYED = "a sensitive feature without an encryption key"


_A, _W, _R = Answer.ALLOWS, Answer.WARNS, Answer.REFUSES

# Of development, staging and production. What no profile allows stands with its variable and not here.
TABLE: dict[Concern, tuple[Answer, Answer, Answer]] = {
    Concern.PLAIN_REDIS: (_A, _W, _R),
    Concern.GUESSED_STORE: (_A, _W, _R),
    Concern.TWO_STORES: (_W, _W, _W),
    Concern.KNOWN_NAME_KEY: (_A, _R, _R),
    Concern.NO_NAME_KEY: (_A, _A, _R),
    Concern.PLAIN_SIGNING_KEYS: (_A, _W, _R),
    Concern.EVERYBODY_TRUSTED: (_W, _R, _R),
    Concern.NO_AUDIT: (_A, _A, _W),
    Concern.UNKEYED: (_W, _W, _R),
}


def answer(profile: str, concern: Concern) -> Answer:
    return TABLE[concern][PROFILES.index(profile)]


def judge(variables: Variables, profile: str, concern: Concern, line: str) -> None:
    """Note this line, which says what, where and what to do: as a refusal, a warning or not at all."""
    said = answer(profile, concern)
    if said is Answer.REFUSES:
        variables.problems.append(line)
    elif said is Answer.WARNS:
        variables.warnings.append(line)
