"""Find permissively licensed source in this machine's Python installation.

Sources are the standard library of the running interpreter and installed distributions: their
RECORD lists the files, their metadata the licence. A distribution whose licence is not clearly
permissive is refused, with the reason.
"""

from __future__ import annotations

import platform
import re
import sysconfig
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from fim_training.corpus.corpus_languages import PYTHON, Language, language_of

# SPDX ids. MPL, LGPL and GPL are left out on purpose: only licences without copyleft are taken.
PERMISSIVE_IDS = frozenset(
    """
    0BSD AFL-3.0 Apache-2.0 Artistic-2.0 BSD BSD-2-Clause BSD-3-Clause BSL-1.0 CC0-1.0 CNRI-Python
    HPND ISC MIT MIT-0 MIT-CMU NCSA PSF-2.0 Python-2.0 Unlicense Zlib
    """.lower().split()
)

# The last part of a "License ::" classifier.
PERMISSIVE_CLASSIFIERS = frozenset(
    {
        "Apache Software License",
        "BSD License",
        "Boost Software License 1.0 (BSL-1.0)",
        "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication",
        "Historical Permission Notice and Disclaimer (HPND)",
        "ISC License (ISCL)",
        "MIT License",
        "MIT No Attribution License (MIT-0)",
        "Python Software Foundation License",
        "The Unlicense (Unlicense)",
        "Zero-Clause BSD (0BSD)",
        "zlib/libpng License",
    }
)
# Classifiers that name no licence; they neither allow nor forbid.
NEUTRAL_CLASSIFIERS = frozenset({"DFSG approved", "OSI Approved"})

# Free-text "License" fields, compared in lower case and without the word "license" or "the".
PERMISSIVE_NAMES = PERMISSIVE_IDS | {
    "2-clause bsd",
    "3-clause bsd",
    "apache",
    "apache 2",
    "apache 2.0",
    "apache software",
    "apache software 2.0",
    "apache, version 2.0",
    "asl 2",
    "bsd 2-clause",
    "bsd 3-clause",
    "mit-style",
    "modified bsd",
    "new bsd",
    "psf",
    "simplified bsd",
}

STANDARD_LIBRARY = "python"
_COPYLEFT = re.compile(r"\b(?:[AL]?GPL|MPL|GNU|Mozilla)")
_INSTALL_FOLDERS = frozenset({"site-packages", "dist-packages"})


@dataclass(frozen=True)
class LicenceFields:
    """What a distribution's metadata says about its licence; empty where it says nothing."""

    expression: str = ""
    classifiers: tuple[str, ...] = ()
    text: str = ""

    @classmethod
    def of(cls, fields: metadata.PackageMetadata) -> LicenceFields:
        """Read the three fields; only the first line of a whole licence text is kept."""
        classifiers = tuple(fields.get_all("Classifier") or ())
        text = "".join(fields.get_all("License") or ()).strip()
        expression = "".join(fields.get_all("License-Expression") or ()).strip()
        return cls(expression, classifiers, text.partition("\n")[0].strip())


@dataclass(frozen=True)
class SourceFile:
    """One file: where it lies, and its name relative to the folder it is imported from."""

    location: Path
    path: str


@dataclass(frozen=True)
class Project:
    """A project whose licence allows training on it."""

    name: str
    version: str
    licence: str
    files: tuple[SourceFile, ...]


@dataclass(frozen=True)
class Refusal:
    """A project that stays out, and why."""

    name: str
    version: str
    reason: str


@dataclass(frozen=True)
class Verdict:
    """What the licence filter says: `licence` as the metadata states it, and whether it may in."""

    permissive: bool
    licence: str


def canonical_name(name: str) -> str:
    """The one spelling of a project name (PEP 503), so that two installs of it are one project."""
    return re.sub(r"[-_.]+", "-", name).lower()


def expression_is_permissive(expression: str) -> bool:
    """Judge an SPDX expression.

    Every licence named must be permissive; in a plain choice ("A OR B") one is enough. An
    exception ("WITH ...") only ever grants more and is passed over.
    """
    plain = re.sub(r"\s+WITH\s+[\w.+-]+", "", expression.strip("() "), flags=re.IGNORECASE)
    ids = [part.strip("() ").lower() for part in re.split(r"\s+(?:AND|OR)\s+", plain, flags=re.I)]
    allowed = [licence in PERMISSIVE_IDS for licence in ids]
    is_plain_choice = not re.search(r"\sAND\s", plain, flags=re.IGNORECASE)
    return any(allowed) if is_plain_choice else all(allowed)


def judge_licence(fields: LicenceFields) -> Verdict:
    """Decide from the metadata alone; the most exact field that is filled in decides.

    Order: the expression, then the licence classifiers (all must be permissive), then the free
    text (a known short name). A text that names copyleft overrules the classifiers. Nothing usable
    means no.
    """
    if fields.expression:
        return Verdict(expression_is_permissive(fields.expression), fields.expression)
    if _COPYLEFT.search(fields.text):
        return Verdict(False, fields.text)
    if names := _licence_names(fields.classifiers):
        return Verdict(PERMISSIVE_CLASSIFIERS.issuperset(names), " and ".join(names))
    return Verdict(_text_is_permissive(fields.text), fields.text)


def _licence_names(classifiers: Iterable[str]) -> list[str]:
    parts = [classifier.split(" :: ") for classifier in classifiers]
    return [
        part[-1] for part in parts if part[0] == "License" and part[-1] not in NEUTRAL_CLASSIFIERS
    ]


def _text_is_permissive(text: str) -> bool:
    plain = re.sub(r"\b(the|licen[sc]e[ds]?)\b", " ", text.lower())
    plain = " ".join(plain.split()).strip(" .,")
    return plain in PERMISSIVE_NAMES or expression_is_permissive(text)


def standard_library() -> Project:
    """The running interpreter's own library, without what is installed into it."""
    root = Path(sysconfig.get_path("stdlib"))
    files = tuple(
        SourceFile(location, location.relative_to(root).as_posix())
        for location in sorted(root.rglob("*.py"))
        if not _INSTALL_FOLDERS & set(location.relative_to(root).parts)
    )
    return Project(STANDARD_LIBRARY, platform.python_version(), "PSF-2.0", files)


def installed_projects(
    sites: Iterable[Path], languages: Collection[Language] = (PYTHON,)
) -> Iterator[Project | Refusal]:
    """Every distribution in these folders, each project once: the first place it is found wins."""
    seen: set[str] = set()
    for site in sites:
        found = metadata.distributions(path=[str(site)])
        for distribution in sorted(found, key=lambda installed: canonical_name(installed.name)):
            name = canonical_name(distribution.name)
            if name not in seen:
                seen.add(name)
                yield examine(distribution, name, languages)


def examine(
    distribution: metadata.Distribution, name: str, languages: Collection[Language]
) -> Project | Refusal:
    """Turn an installed distribution into a project, or say why it stays out."""
    verdict = judge_licence(LicenceFields.of(distribution.metadata))
    if not verdict.permissive:
        return refusal(name, distribution.version, verdict)
    files = tuple(sorted(_recorded_files(distribution, languages), key=lambda file: file.path))
    if not files:
        return Refusal(
            name, distribution.version, f"its record lists no {spelled(languages)} files"
        )
    return Project(name, distribution.version, verdict.licence, files)


def refusal(name: str, version: str, verdict: Verdict) -> Refusal:
    """A project that stays out for its licence."""
    reason = f"licence not known to be permissive: {verdict.licence or 'none stated'}"
    return Refusal(name, version, reason)


def spelled(languages: Collection[Language]) -> str:
    """The languages' names, for a message."""
    return (
        "Python"
        if set(languages) == {PYTHON}
        else " / ".join(language.name for language in languages)
    )


def _recorded_files(
    distribution: metadata.Distribution, languages: Collection[Language]
) -> Iterator[SourceFile]:
    for recorded in distribution.files or []:
        # A path that climbs out of the folder is a script or a header, not part of the package.
        if language_of(recorded.name) in languages and ".." not in recorded.parts:
            yield SourceFile(Path(str(distribution.locate_file(recorded))), recorded.as_posix())
