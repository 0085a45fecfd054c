"""A Python process that does with filelock what a test asks for: one JSON object a line, one answer a line.

{"do": "pid"}                                        its own pid and version
{"do": "acquire", "path": P, "timeout": T}           "taken", "busy" or the name of an error
{"do": "acquire_all", "paths": [P...], "timeout": T} the same for many, each in a thread of its own; all are released
{"do": "release", "path": P}                         lets go of what `acquire` took
{"do": "holder", "path": P}                          the pid that filelock reads there
{"do": "host", "names": [[HEX, INODE]...]}           the second line of a record on a machine of that name and namespace
{"do": "judge", "path": P, "records": [HEX...]}      what filelock would do with each of these as the marker at P
"""

import contextlib
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from unittest import mock

import filelock
from filelock import SoftFileLock, Timeout

held = {}


def acquire(path, timeout):
    lock = SoftFileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=timeout, poll_interval=0.002)
    except Timeout:
        return "busy", None
    except OSError as error:
        return type(error).__name__, None
    return "taken", lock


def acquire_and_release(path, timeout):
    answer, lock = acquire(path, timeout)
    if lock is not None:
        lock.release()
    return answer


class Judged(SoftFileLock):
    """The real decision, which stops where the real one would begin to act."""

    decision = "held"

    def _marker_unchanged_for(self, marker):
        self.decision = "malformed"
        return float("inf")

    def _take_over(self, marker, breaker_pid):
        breaker = "-" if breaker_pid is None else breaker_pid
        self.decision = f"{'malformed' if self.decision == 'malformed' else 'gone'} {breaker}"


def judge(path, records):
    lock = Judged(path, thread_local=False)
    answers = []
    # Written in place: a file that is emptied and closed for each record is flushed to the disk each time.
    marker = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    for record in map(bytes.fromhex, records):
        os.pwrite(marker, record, 0)
        os.ftruncate(marker, len(record))
        lock.decision = "held"
        lock._try_break_stale_lock()
        answers.append(lock.decision)
    os.close(marker)
    return answers


def host(name, inode):
    """filelock's own text, with the kernel's two answers replaced."""
    from filelock import _identity

    text = bytes.fromhex(name).decode("utf-8", "surrogateescape")
    namespace = SimpleNamespace(stat=lambda: SimpleNamespace(st_ino=inode))
    with mock.patch.object(_identity.socket, "gethostname", lambda: text):
        with mock.patch.object(_identity, "Path", lambda path: namespace):
            return _identity.host_name()


def answer(question):
    match question["do"]:
        case "pid":
            return {"pid": os.getpid(), "version": filelock.__version__}
        case "acquire":
            path = question["path"]
            result, lock = acquire(path, question["timeout"])
            if lock is not None:
                held[path] = lock
            return result
        case "acquire_all":
            paths, timeout = question["paths"], question["timeout"]
            with ThreadPoolExecutor(max(1, len(paths))) as pool:
                return list(pool.map(lambda path: acquire_and_release(path, timeout), paths))
        case "release":
            held.pop(question["path"]).release()
            return "released"
        case "holder":
            return SoftFileLock(question["path"]).pid
        case "host":
            return [host(name, inode) for name, inode in question["names"]]
        case "judge":
            return judge(question["path"], question["records"])


def main():
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
    # What is still held stays for those who come after a process that has ended without letting go.
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(0)


main()
