"""Takes a SoftFileLock from a live holder because its marker is old: what `lifetime` does.

    filelock_expirer.py PATH
"""

import sys
import warnings

from filelock import SoftFileLock

warnings.simplefilter("ignore")
SoftFileLock(sys.argv[1], lifetime=0.05).acquire(timeout=10, poll_interval=0.01)
print("taken")
