"""The child's end of `benchmarks.systems.process`, of the standard library alone: it runs in peers' interpreters.

python -m benchmarks.systems.child READ_FD WRITE_FD MODULE FUNCTION
"""

import importlib
import json
import os
import sys
import time
import traceback
from typing import Any

from benchmarks.works import Work


def peak_rss_mb() -> float:
    """Peak resident memory of this process, in MiB; ru_maxrss would count what the parent had when it forked."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM:"))


def main() -> int:
    """Load, answer, and leave when the pipe closes."""
    questions, answers = os.fdopen(int(sys.argv[1])), os.fdopen(int(sys.argv[2]), "w")

    def answer(**message: Any) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    try:
        make = getattr(importlib.import_module(sys.argv[3]), sys.argv[4])
        system = make(**json.loads(questions.readline()))
        answer(answer="ready")
        for line in questions:
            question = json.loads(line)
            if question == "memory":
                answer(answer=peak_rss_mb())
                continue
            work = Work(question["name"], tuple(map(tuple, question["prompts"])), tuple(question["outputs"]))
            began = time.perf_counter()
            counters = system.run(work)
            answer(answer=(time.perf_counter() - began, counters))
    except Exception as error:
        traceback.print_exc()
        answer(error=f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
