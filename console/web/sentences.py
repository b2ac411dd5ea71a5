"""Sentences of errors in the language of the page.

What raises an error knows of no language: it says an English sentence with names and UIDs in it, which programs, logs
and terminals get as it is. Pages look here for the sentence that it was made from, and say that one in their language.
"""

import re
from collections.abc import Mapping
from functools import cache

from console.web import words
from console.web.languages import catalogue, translate

SENTENCES: tuple[str, ...] = (
    # who asks
    "sign in first",
    "you were signed out after a while; sign in again",
    "the name or the password is wrong, or the account is locked for a while after too many wrong passwords",
    "too many tries to sign in from this address; wait a minute",
    "too many requests from this address; wait a moment",
    "too many requests; wait a moment",
    "change your password first, on the page /account",
    "this account is disabled; ask who manages accounts",
    "{user_name} has a local account: sign in with its password",
    "this sign-in was begun elsewhere or too long ago; begin again",
    "the identity provider did not let you in",
    "none of your groups has a role here; ask who manages accounts",
    "this form is from before you signed in, or from elsewhere: load its page again",
    "pages of other sites may change nothing here",
    "your account may not do this: it needs the role {role}",
    "another identity provider sent you back",
    "the identity provider took back that it let you in; begin again",
    "what the identity provider says of you does not stand up to being checked",
    "what the identity provider says of you is meant for another site",
    # accounts and tokens
    "the new password was not repeated as it is",
    "the new password is the present one",
    "a password has {shortest} to {longest} characters",
    "the password is too easy to guess: leave out the name, use more different characters",
    "{user_name} is no name for an account: use letters, digits and . _ @ + -",
    "{user_name} is the last one who manages accounts: make somebody else admin first",
    "there is no account {user_name}",
    "there is an account {user_name} already",
    "the roles of {user_name} come from the identity provider with each sign-in",
    "{user_name} signs in by the identity provider, which keeps the password",
    "somebody else who manages accounts has to do that for you",
    "a token needs a name and at least one scope",
    "a token is good for more than 0 and at most {days} days",
    "there is a token {name} already: revoke it, or take another name",
    "there is no token {token_id}",
    "token {token_id} was revoked before",
    "days is a whole number",
    # studies and jobs
    "no study {study_instance_uid} was received",
    "study {study_instance_uid} has no series {series_instance_uid}",
    "study {study_instance_uid} is being received; wait until it is complete, or close it (`vesselq studies close`)",
    "files of series {series_instance_uid} are no longer kept; send it again first",
    "the files of series {series_instance_uid} have changed meanwhile; ask again",
    "the source files of this job are no longer kept; send the study again",
    "no single job has the id {job_id}; `vesselq jobs` lists them",
    "job {job_id} cannot be tried again: it is {state}",
    "job {job_id} cannot be tried again: no segmenter was chosen for it",
    "job {job_id} cannot be cancelled: it is {state}",
    "job {job_id} cannot be sent again: it is {state}",
    "job {job_id} cannot be sent again: it has no destination",
    "job {job_id} has nothing for {destination}; it went to {destinations}",
    "job {job_id} belongs to generation {generation}; generation {newest} replaced it",
    "the result of job {job_id} is no longer kept; send the study again",
    "the priority of job {job_id} means nothing any more: it is {state}",
    "{priority} is no priority; choose 0 (routine) to {highest} (STAT)",
    "nothing is asked: give words, points, boxes or another segmenter",
    # forms and addresses
    "say why: the reason is kept in the audit log",
    "give a priority from 0 (routine) to {highest} (STAT)",
    "ask in at most 1000 characters, all of which can be printed",
    "choose a DICOM file",
    "this is no DICOM file (PS3.10 section 7.1)",
    "there are no [[rules]] in it",
    "another dry run is under way; try again when it is over",
    "no such state",
    "no such page",
    "a PatientID of nothing but spaces names nobody",
    "give the StudyInstanceUID of the study: digits and dots, at most 64 characters",
    "the chain is being verified already; wait for the answer",
    "nothing waits for it, and it refused nothing that can be sent again",
    "the settings have no {key}; `vesselq peers` lists what they have",
    "this address has values that are not taken",
    "something went wrong here; the log of the web process says what",
    "there is no page at this address",
)
"""English, with names for what differs: keys of the catalogues of other languages."""
_WORDS: Mapping[str, Mapping[str, str]] = {"state": words.STATES, "role": words.ROLES}


def in_language(language: str, sentence: str) -> str:
    """A sentence of an error in a language, in English where the catalogue has none.

    Args:
        language: Key of ``languages.LANGUAGES``.
        sentence: English, as the error says it.
    """
    if not catalogue(language):
        return sentence
    for text, pattern in _patterns():
        if found := pattern.fullmatch(sentence):
            return translate(language, text, **_values(language, found.groupdict()))
    return sentence


def _values(language: str, said: Mapping[str, str]) -> dict[str, str]:
    """What stands in a sentence; states and roles as their badges have them."""
    return {
        name: translate(language, _WORDS[name][value]) if value in _WORDS.get(name, ()) else value
        for name, value in said.items()
    }


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((text, re.compile(_pattern(text), re.DOTALL)) for text in SENTENCES)


def _pattern(text: str) -> str:
    parts = re.split(r"{(\w+)}", text)  # what is fixed and names of values by turns
    return "".join(f"(?P<{part}>.+?)" if index % 2 else re.escape(part) for index, part in enumerate(parts))
