"""The end of the server: with its editor, by a signal, or because the client is gone.

What has been counted is saved in each case. Reading stdin blocks a thread that cannot be stopped,
so that a server that nobody tells to exit ends its process itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial

logger = logging.getLogger(__name__)

POLL_SECONDS = 3.0
"""How often the editor's process is looked for, on systems that do not report its end."""

LEAVE_SECONDS = 1.0
"""Maximum time for saving and closing before the process ends."""

_SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP")


def end_on_signals(leave: Callable[[], Awaitable[None]]) -> None:
    """Call `leave` on SIGTERM, SIGINT and SIGHUP, and then die of the signal.

    Does nothing where the event loop cannot handle signals: on Windows, and outside the main
    thread.
    """
    loop = asyncio.get_running_loop()
    for name in _SIGNALS:
        number = getattr(signal, name, None)
        if number is None or signal.getsignal(number) is signal.SIG_IGN:  # nohup ignores SIGHUP
            continue
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, _end_task(leave, partial(_die, number)))


def end_with(process_id: int, leave: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
    """End this process when another one ends, or has ended already (LSP, `processId`).

    An editor outside the server's container has a process id that means nothing inside: it is not
    watched. Such an id is larger than the server's own, and an editor that starts the server has a
    smaller one. The caller keeps the task.
    """

    async def watch() -> None:
        if process_id > os.getpid() and not is_running(process_id):
            logger.warning(
                "there is no process %d here, so the server does not end with it; outside this "
                "container, clients should send processId null",
                process_id,
            )
            return
        await _ended(process_id)
        logger.warning("the editor's process %d has ended, so the server exits", process_id)
        await _left(leave)
        _exit(1)

    return asyncio.create_task(watch())


def end_once(leave: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """A function that calls `leave` and ends this process, for a client that reads no more."""
    return _end_task(leave, partial(_exit, 1))


def is_running(process_id: int) -> bool:
    """Whether a process exists. On Windows always True: a signal there would end it."""
    if sys.platform == "win32":
        return True
    try:
        os.kill(process_id, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


async def _ended(process_id: int) -> None:
    """Return when the process has ended, as a zombie too where the system tells (Linux)."""
    if not is_running(process_id):
        return
    loop, end = asyncio.get_running_loop(), asyncio.Event()
    try:
        descriptor = os.pidfd_open(process_id)
    except (AttributeError, OSError):
        while is_running(process_id):  # noqa: ASYNC110 - nothing reports it
            await asyncio.sleep(POLL_SECONDS)
        return
    try:
        loop.add_reader(descriptor, end.set)
        await end.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _end_task(leave: Callable[[], Awaitable[None]], end: Callable[[], None]) -> Callable[[], None]:
    """A signal handler that leaves once, and then ends the process."""
    tasks: list[asyncio.Task[None]] = []

    async def leave_and_end() -> None:
        await _left(leave)
        end()

    def handle() -> None:
        if not tasks:
            tasks.append(asyncio.create_task(leave_and_end()))

    return handle


async def _left(leave: Callable[[], Awaitable[None]]) -> None:
    try:
        await asyncio.wait_for(leave(), LEAVE_SECONDS)
    except Exception as problem:
        logger.warning("leaving failed: %s", type(problem).__name__)


def _die(number: int) -> None:
    """End by a signal's own effect, so that the parent sees it."""
    logging.shutdown()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _exit(code: int) -> None:
    logging.shutdown()
    os._exit(code)
