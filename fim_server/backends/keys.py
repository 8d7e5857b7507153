"""The API key of a remote server: from the environment or the keyring, never from settings.

Settings may come from a workspace. A key belongs to one host and is sent to no other, whatever
address a workspace configures.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

logger = logging.getLogger(__name__)

KEY_VARIABLE = "FIM_SERVER_API_KEY"
HOST_VARIABLE = "FIM_SERVER_API_HOST"
KEYRING_SERVICE = "fim-server"


def api_key(url: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """The key for the host of `url`, None if there is none.

    It is taken from the environment if HOST_VARIABLE names exactly that host, otherwise from the
    system's keyring (service "fim-server", the host as user name).
    """
    host = urlsplit(url).netloc.rpartition("@")[2]
    key = environment.get(KEY_VARIABLE, "").strip()
    if key:
        if environment.get(HOST_VARIABLE) == host:
            return key
        logger.warning(
            "%s is not sent to %s; to allow it, set %s=%s", KEY_VARIABLE, host, HOST_VARIABLE, host
        )
    return _from_keyring(host)


def _from_keyring(host: str) -> str | None:
    try:
        import keyring
    except ImportError:
        return None
    try:
        return keyring.get_password(KEYRING_SERVICE, host)
    except Exception as failure:  # its backends pass on errors of D-Bus and others
        logger.info("the system's keyring cannot be read: %s", type(failure).__name__)
        return None
