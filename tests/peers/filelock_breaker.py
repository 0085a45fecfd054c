"""Takes over a dead marker with filelock, and stops right before its first exchange of names.

    filelock_breaker.py PATH TIMEOUT

prints `judged` there, goes on when a line comes, and prints `taken` or `busy` at the end. Whoever changes the path in
between makes it take the wrong marker, which it must then put back.
"""

import sys

from filelock import SoftFileLock, Timeout, _soft

exchange = _soft.exchange_names


def wait_and_exchange(source, target):
    _soft.exchange_names = exchange
    print("judged", flush=True)
    sys.stdin.readline()
    return exchange(source, target)


_soft.exchange_names = wait_and_exchange
try:
    SoftFileLock(sys.argv[1]).acquire(timeout=float(sys.argv[2]), poll_interval=0.002)
    print("taken", flush=True)
except Timeout:
    print("busy", flush=True)
