"""All that takes time, in one table, on whatever device there is: python -m benchmarks [OVERRIDE ...]"""

import sys
from itertools import chain

from benchmarks import throughput, training
from benchmarks.rows import show

show(chain(training.figures(sys.argv[1:]), throughput.figures(sys.argv[1:])))
