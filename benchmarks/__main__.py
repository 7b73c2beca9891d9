"""All that takes time or memory, in one table, on whatever device there is: python -m benchmarks [OVERRIDE ...]"""

import sys
from itertools import chain

from benchmarks import corpus_size, throughput, training
from benchmarks.rows import show

show(chain.from_iterable(part.figures(sys.argv[1:]) for part in (training, throughput, corpus_size)))
