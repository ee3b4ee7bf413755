"""The step of a launch test: `launch_step SCRATCH SPEC GRACE_SECONDS RANKS`; says how the attempt ended as JSON."""

import json
import sys
from pathlib import Path

from carryover.launch.ranks import run_ranks


def main() -> None:
    """Run the ranks and leave with their code."""
    ending = run_ranks(
        "tests.support.launch_rank",
        json.loads(sys.argv[2]),
        ranks=int(sys.argv[4]),
        scratch=Path(sys.argv[1]),
        grace_seconds=float(sys.argv[3]),
    )
    print(json.dumps(vars(ending)), flush=True)
    sys.exit(ending.exit_code)


if __name__ == "__main__":
    main()
