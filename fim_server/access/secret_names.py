"""Names of files that hold secrets. No setting makes them visible to a model."""

from __future__ import annotations

import pathspec

SECRETS = (
    ".env",
    ".env.*",
    "*.env",
    "!.env.example",
    "!.env.sample",
    "!.env.template",
    ".envrc",
    "*.pem",
    "*.key",
    "*.p8",
    "*.p12",
    "*.pfx",
    "*.pkcs12",
    "*.jks",
    "*.keystore",
    "*.ppk",
    "*.kdbx",
    "*.gpg",
    "*.asc",
    "*.age",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    ".ssh/",
    ".gnupg/",
    ".aws/",
    ".azure/",
    ".kube/",
    ".gcloud/",
    ".docker/config.json",
    ".netrc",
    "_netrc",
    ".npmrc",
    ".yarnrc.yml",
    ".pypirc",
    ".pgpass",
    ".my.cnf",
    ".htpasswd",
    ".git-credentials",
    ".vault-token",
    ".git/",
    "credentials",
    "credentials.json",
    "credentials.y*ml",
    "credentials.toml",
    "credentials.ini",
    "client_secret*.json",
    "service[-_]account*.json",
    "secret",
    "secrets",
    "secret.*",
    "secrets.*",
    "!secret.py",
    "!secrets.py",
    "*.secret",
    "*.tfstate",
    "*.tfstate.*",
    "*.tfvars",
    "*.tfvars.json",
)
"""`.gitignore` patterns, matched against lower-cased paths."""

_SPEC = pathspec.GitIgnoreSpec.from_lines(SECRETS)


def secret_pattern(path: str) -> str | None:
    """The pattern that marks a file as secret; None if none does.

    `path` is relative, with `/` as separator.
    """
    parts = path.lower().split("/")
    for end in range(1, len(parts)):
        found = _SPEC.check_file("/".join(parts[:end]) + "/")
        if found.include and found.index is not None:
            return SECRETS[found.index]
    found = _SPEC.check_file("/".join(parts))
    return SECRETS[found.index] if found.include and found.index is not None else None
