"""Takes and releases a SoftFileLock many times, and says when.

    filelock_contender.py PATH ROUNDS

prints `try NS`, `begin NS` when it has the lock and `end NS` just before it lets go, one write each, so that the line of
a contender that is killed is whole or absent. NS is CLOCK_MONOTONIC in nanoseconds.
"""

import os
import random
import sys
import time

from filelock import SoftFileLock


def say(word):
    os.write(1, f"{word} {time.clock_gettime_ns(time.CLOCK_MONOTONIC)}\n".encode())


def wait_microseconds(most):
    """A random time, spent awake: a sleep would last longer than what is wanted here."""
    end = time.monotonic() + random.uniform(0, most) / 1e6
    while time.monotonic() < end:
        pass


def main():
    path, rounds = sys.argv[1], int(sys.argv[2])
    lock = SoftFileLock(path)
    for _ in range(rounds):
        say("try")
        lock.acquire(poll_interval=0.002)
        say("begin")
        wait_microseconds(300)
        say("end")
        lock.release()
        time.sleep(random.uniform(0, 0.001))


main()
